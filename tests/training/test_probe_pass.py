"""The teacher-forced pass: against a plain forward in float64, whatever is batched with what."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coordeval.coords import frame_named, quantise
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_model, load_reader
from coordeval.errors import CheckpointError, ConfigError, DataError, RunIncomplete
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.training.probe.checkpoint import Prober, probe_checkpoint
from coordeval.training.probe.inputs import read_inputs
from coordeval.training.probe.matching import matched_boxes, written_order
from coordeval.training.probe.options import ProbeOptions

FIXTURES = Path(__file__).parents[2] / "fixtures"
RUN = FIXTURES / "runs" / "ckpt-2400"
CKPT = FIXTURES / "ckpt-2400"
# The model of these runs; loaded once, since loading takes longer than the pass.
IMAGE_PAD = "<|image_pad|>"


@pytest.fixture(scope="module")
def reader():
    return load_reader(resolve_checkpoint(str(CKPT)))


@pytest.fixture(scope="module")
def model():
    checkpoint = resolve_checkpoint(str(CKPT))
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


def options(**changed):
    return ProbeOptions(**{"checkpoint": str(CKPT), "run": RUN, "limit": 10, **changed})


def probed(**changed):
    """Contexts of one probe as plain data, and the whole result."""
    result = probe_checkpoint(options(**changed))
    return result, result.to_json()


@pytest.fixture(scope="module")
def both():
    return probed()


def plain_logits(model, reader, image_path, answer_ids):
    """Float64 logits at the answer of one text, by a plain forward without padding or batches."""
    from PIL import Image

    from coordeval.engines.hf_inputs import render_prompt
    from coordeval.training.probe.inputs import _stored_prompt

    meta = json.loads((RUN / "run.json").read_text())
    prompt = _stored_prompt(meta["prompt"], open_run(RUN))
    image_id = reader.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    features = reader.image_processor(images=[Image.open(image_path)], return_tensors="pt")
    count = int(features["image_grid_thw"].prod()) // 4
    ids = []
    for token in render_prompt(reader.tokenizer, prompt, image_id):
        ids += [token] * (count if token == image_id else 1)
    start = len(ids)
    whole = torch.tensor([[*ids, *answer_ids]])
    is_image = (whole == image_id).long()
    is_image[:, start:] = 0
    with torch.no_grad():
        logits = model(
            input_ids=whole,
            mm_token_type_ids=is_image,
            pixel_values=features["pixel_values"],
            image_grid_thw=features["image_grid_thw"],
        ).logits[0]
    return logits[start - 1 : -1].double().numpy()


def ground_truth_text(record):
    """The canonical answer written out by hand: sorted by y1 then x1, rounded to the nearest bin."""
    objects = sorted(record["objects"], key=lambda obj: (obj["bbox_2d"][1], obj["bbox_2d"][0]))
    written = []
    for obj in objects:
        sides = (record["width"], record["height"]) * 2
        bins = [
            int(value * 999 / (side - 1) + 0.5)
            for value, side in zip(obj["bbox_2d"], sides, strict=True)
        ]
        tokens = ", ".join(f"<|coord_{b}|>" for b in bins)
        written.append(f'{{"desc": "{obj["desc"]}", "bbox_2d": [{tokens}]}}')
    return '{"objects": [' + ", ".join(written) + "]}"


def formulas(logits, labels, first, slot_mask=None):
    """All metrics in float64 numpy; `first` is the id of bin 0, slots are the coordinate labels."""
    labels = np.asarray(labels)
    bins = labels - first
    slot = (bins >= 0) & (bins < 1000) if slot_mask is None else slot_mask
    known = slot & (bins >= 0) & (bins < 1000)
    z = logits - logits.max(1, keepdims=True)
    mass = np.exp(z[:, first : first + 1000]).sum(1) / np.exp(z).sum(1)
    c = logits[known][:, first : first + 1000]
    p = np.exp(c - c.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    k, t = np.arange(1000), bins[known]
    rows = np.arange(len(t))
    q = np.exp(-0.125 * (k[None] - t[:, None]) ** 2.0) * (np.abs(k[None] - t[:, None]) <= 16)
    q /= q.sum(1, keepdims=True)
    err = np.abs(p @ k - t)
    order = np.argsort(-c, axis=1, kind="stable")
    top = logits.argmax(1)
    return {
        "coord_diag/expected_bin_mae": err.mean(),
        "coord_diag/expected_bin_abs_err_p90": np.quantile(err, 0.9),
        "coord_diag/w1_to_delta": (p * np.abs(k[None] - t[:, None])).sum(1).mean(),
        "coord_diag/p_gt_mean": p[rows, t].mean(),
        "coord_diag/acc_top5": (order[:, :5] == t[:, None]).any(1).mean(),
        "coord_diag/margin_mean": (c.max(1) - c[rows, t]).mean(),
        "coord_diag/soft_ce": -(q * np.log(p)).sum(1).mean(),
        "coord_diag/w1": np.abs(np.cumsum(p - q, axis=1)).sum(1).mean() / 999,
        "coord_diag/ce": -np.log(p[rows, t]).mean(),
        "coord_diag/gate": -np.log(mass[slot]).mean(),
        "coord_diag/coord_vocab_mass": mass[slot].mean(),
        "coord_diag/text_coord_vocab_mass": mass[~slot].mean(),
        "coord_diag/flip_coord_to_noncoord": (
            (top[slot] < first) | (top[slot] >= first + 1000)
        ).mean(),
        "token_acc": (top == labels).mean(),
        "coord_token_acc": (top == labels)[slot].mean(),
    }


def assert_close(got, want):
    for key, value in want.items():
        assert got[key] == pytest.approx(value, rel=2e-5, abs=1e-8), key


def records(count):
    lines = (FIXTURES / "scenes" / "heldout.jsonl").read_text().splitlines()[:count]
    return [json.loads(line) for line in lines]


def reference(model, reader, count):
    """Ground-truth metrics of the first scenes, with nothing of the probe's own code."""
    first = reader.tokenizer.convert_tokens_to_ids("<|coord_0|>")
    logits, labels = [], []
    for record in records(count):
        ids = reader.tokenizer(ground_truth_text(record), add_special_tokens=False)["input_ids"]
        ids = [*ids, reader.tokenizer.convert_tokens_to_ids("<|im_end|>")]
        image = FIXTURES / "scenes" / record["image"]
        logits.append(plain_logits(model, reader, image, ids))
        labels += ids
    return formulas(np.concatenate(logits), labels, first)


def test_ground_truth_equals_a_plain_float64_computation(both, model, reader):
    """Every number of the ground truth context, on ten scenes, from one-by-one plain forwards."""
    assert_close(both[1]["contexts"]["ground_truth"]["metrics"], reference(model, reader, 10))
    assert both[1]["metrics"] == both[1]["contexts"]["ground_truth"]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("ckpt-300", 16), ("ckpt-2400", 64), ("shapes-final", 16)]
)
def test_ground_truth_of_all_scenes(name, count):
    """The same on all 64 scenes, and on the first ones with the other fixture checkpoints."""
    checkpoint = resolve_checkpoint(str(FIXTURES / name))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    got = probed(checkpoint=str(checkpoint.path), limit=count, texts="gt", batch_size=16)[1]
    want = reference(model, load_reader(checkpoint), count)
    assert_close(got["contexts"]["ground_truth"]["metrics"], want)


def test_own_rollouts_equal_a_plain_float64_computation(both, model, reader):
    """The same of the own rollout context, foreign tokens in coordinate slots among them."""
    first = reader.tokenizer.convert_tokens_to_ids("<|coord_0|>")
    rows = both[0].slots.to_pandas()
    rows = rows[(rows.context == "own_rollout") & (rows.labels == "written")]
    logits, labels, slots = [], [], []
    for rollout in list(open_run(RUN).rollouts())[:10]:
        image = FIXTURES / "scenes" / rollout.image
        logits.append(plain_logits(model, reader, image, rollout.token_ids))
        labels += rollout.token_ids
        slot = np.zeros(len(rollout.token_ids), dtype=bool)
        slot[rows[rows.id == rollout.id].token.to_numpy()] = True
        # Whatever else is a slot, a coordinate token is one.
        ids = np.array(rollout.token_ids)
        assert slot[(ids >= first) & (ids < first + 1000)].all()
        slots.append(slot)
    want = formulas(np.concatenate(logits), labels, first, np.concatenate(slots))
    assert_close(both[1]["contexts"]["own_rollout"]["metrics"], want)
    assert both[1]["contexts"]["own_rollout"]["slots"] == len(rows)


def test_the_batch_size_changes_nothing(both):
    """One text at a time or all at once: the same numbers, slot by slot."""
    for batch_size in (1, 3):
        two = probed(batch_size=batch_size, limit=4)[0].slots.to_pandas()
        one = both[0].slots.to_pandas()
        assert one.columns.tolist() == two.columns.tolist()
        one = one[one.id.isin(two.id)]
        keys = ["id", "context", "labels", "token"]
        one, two = one.sort_values(keys), two.sort_values(keys)
        for column in one:
            left, right = one[column].to_numpy(), two[column].to_numpy()
            if left.dtype == np.float64:
                np.testing.assert_allclose(left, right, rtol=2e-4, atol=2e-4, err_msg=column)
            else:
                assert left.tolist() == right.tolist(), column


def test_small_chunks_of_the_head_change_nothing(model, reader):
    """The head applied to a few positions at a time gives what it gives at once."""
    from coordeval.training.probe.forward import ForcedText, TeacherForcing

    prober = Prober(read_inputs(options(limit=2)), resolve_checkpoint(str(CKPT)), reader, ())
    item = prober._inputs.items[0]
    forced = ForcedText(prober._encode(item), prober._texts.ground_truth(item.sample))
    ids = prober._table.coords.token_ids
    (one,) = TeacherForcing(model, reader, ids).diagnose([forced])
    (two,) = TeacherForcing(model, reader, ids, chunk_numbers=5000).diagnose([forced])
    assert torch.equal(one.written.correct_N, two.written.correct_N)
    torch.testing.assert_close(
        one.written.slots.soft_ce, two.written.slots.soft_ce, rtol=1e-4, atol=1e-4
    )
    assert TeacherForcing(model, reader, ids).diagnose([]) == []


def test_teacher_forcing_agrees_with_the_greedy_rollout(both):
    """On its own greedy text the most probable token is always the one that was written."""
    assert both[1]["contexts"]["own_rollout"]["metrics"]["token_acc"] == 1.0
    assert both[1]["contexts"]["own_rollout"]["origins"] == {"token_ids": 10}


def test_matching_is_the_matching_of_f1():
    """As many matched boxes as f1 has true positives, and each overlaps its truth by half."""
    inputs = read_inputs(options(limit=None))
    boxes = matched_boxes(inputs.run, inputs.items, inputs.dialect, inputs.frame)
    result = score_run(open_run(RUN))
    assert sum(map(len, boxes)) == result.metrics["f1/0.50/tp"] > 0
    for item, found in zip(inputs.items, boxes, strict=True):
        assert len({box.object_index for box in found}) == len(found)
        for box in found:
            obj = item.sample.objects[box.object_index]
            bins = quantise(obj.values_px, 64, 64, frame_named("coordexp")).bins
            assert box.true_bins == bins
            ax1, ay1, ax2, ay2 = box.written_bins
            bx1, by1, bx2, by2 = bins
            inter = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
            union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
            assert inter / union > 0.45


def test_exposure_bias_is_about_the_same_boxes(both):
    """Both contexts hold the same labels: the true bins of the boxes that the rollout found."""
    rows = both[0].slots.to_pandas()
    own = rows[rows.labels == "ground_truth"]
    truth = rows[(rows.context == "ground_truth") & rows.object.notna()]
    assert len(own) == len(truth) == 4 * both[1]["exposure_bias"]["boxes"] > 0
    key = ["id", "object", "slot"]
    left = own.sort_values(key)[[*key, "label_bin"]].to_numpy().tolist()
    assert left == truth.sort_values(key)[[*key, "label_bin"]].to_numpy().tolist()
    bias = both[1]["exposure_bias"]
    for context, part in (("ground_truth_context", truth), ("own_rollout_context", own)):
        got = bias[context]
        assert got["coord_diag/expected_bin_mae"] == pytest.approx(part.abs_err.mean(), rel=1e-9)
        want = np.quantile(part.abs_err, 0.9)
        assert got["coord_diag/expected_bin_abs_err_p90"] == pytest.approx(want, rel=1e-9)
    change = bias["same_boxes"]["coord_diag/expected_bin_mae"]
    assert change["difference"] == pytest.approx(own.abs_err.mean() - truth.abs_err.mean())
    assert change["low"] <= change["difference"] <= change["high"]


def test_ground_truth_slots_know_their_object(both):
    """Record and slot of a ground-truth slot name the object that its bin comes from."""
    samples = {item.sample.id: item.sample for item in read_inputs(options()).items}
    rows = both[0].slots.to_pandas()
    frame = frame_named("coordexp")
    for row in rows[rows.context == "ground_truth"].itertuples():
        sample = samples[row.id]
        obj = sample.objects[written_order(sample)[int(row.record)]]
        assert row.label_bin == quantise(obj.values_px, 64, 64, frame).bins[int(row.slot)]


def test_token_types_cover_the_text(reader):
    """Descriptions are the tokens of the names; the end token and the braces are structure."""
    from coordeval.decoding.token_table import TokenTable
    from coordeval.training.probe.texts import description_tokens

    table = TokenTable.from_tokenizer(reader.tokenizer, end_ids=reader.end_ids)
    text = (
        '{"objects": [{"desc": "red \\"desc\\": x", "bbox_2d": []}, {"desc": "第九", "poly": []}]}'
    )
    ids = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    chosen = description_tokens(ids, table)
    pieces = b"|".join(table.text_bytes(ids[token]) for token in chosen).replace(b"|", b"")
    shown = pieces.decode()
    assert "第九" in shown
    assert "red" in shown
    assert "bbox" not in shown
    assert "objects" not in shown
    assert description_tokens([], table).tolist() == []


def lines_of_run(count=4):
    return [json.loads(line) for line in (RUN / "rollouts.jsonl").read_text().splitlines()[:count]]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


DATA = {"data": FIXTURES / "scenes" / "heldout.jsonl"}


def test_a_bare_file_without_ids_is_tokenised_anew(tmp_path):
    """Texts alone give the same ground-truth numbers, and say that they were tokenised anew."""
    lines = lines_of_run()
    for line in lines:
        del line["token_ids"], line["token_logprobs"]
    path = write_lines(tmp_path / "bare.jsonl", lines)
    document = probed(run=path, limit=None, **DATA)[1]
    assert document["contexts"]["own_rollout"]["origins"] == {"retokenised": 4}
    assert any("tokenised anew" in note for note in document["notes"])
    assert any("does not say which checkpoint" in note for note in document["notes"])
    want = probed(limit=4)[1]["contexts"]
    for context in want:
        got = document["contexts"][context]["metrics"]
        for key, value in want[context]["metrics"].items():
            assert got[key] == pytest.approx(value, rel=1e-5), key


def test_ids_of_another_vocabulary_are_not_mistaken(tmp_path):
    """Ids that this tokenizer reads as another text, or does not have, are set aside."""
    lines = lines_of_run(2)
    lines[0]["token_ids"] = [i + 1 for i in lines[0]["token_ids"]]
    lines[1]["token_ids"] = [10**6]
    path = write_lines(tmp_path / "bare.jsonl", lines)
    document = probed(run=path, limit=None, **DATA)[1]
    assert document["contexts"]["own_rollout"]["origins"] == {"retokenised": 2}
    want = probed(limit=2)[1]["contexts"]["own_rollout"]["metrics"]
    got = document["contexts"]["own_rollout"]["metrics"]
    assert got["coord_diag/gate"] == pytest.approx(want["coord_diag/gate"], rel=1e-4)


def test_an_image_token_in_the_answer_is_text(tmp_path, model, reader):
    """A model may write the image token: it is embedded as such, and is no place of an image."""
    image_id = reader.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    line = lines_of_run(1)[0]
    ids = line["token_ids"][:60]
    ids[30] = image_id
    line |= {"token_ids": ids, "finish_reason": "length"}
    line["text"] = reader.tokenizer.decode(ids, skip_special_tokens=False)
    path = write_lines(tmp_path / "bare.jsonl", [line])
    result, document = probed(run=path, limit=None, texts="rollouts", **DATA)
    assert not result.errors
    logits = free_logits(model, reader, ids)
    top = logits.argmax(1)
    got = document["contexts"]["own_rollout"]["metrics"]
    assert got["token_acc"] == pytest.approx((top == np.array(ids)).mean())
    first = reader.tokenizer.convert_tokens_to_ids("<|coord_0|>")
    rows = result.slots.to_pandas()
    z = np.exp(logits - logits.max(1, keepdims=True))
    mass = z[:, first : first + 1000].sum(1) / z.sum(1)
    written = rows[rows.labels == "written"]
    np.testing.assert_allclose(written.coord_mass, mass[written.token], rtol=1e-3, atol=1e-6)


def free_logits(model, reader, answer):
    """Logits of one answer as decoding sees them: the prompt with its image, then token by token."""
    from PIL import Image

    from coordeval.engines.hf_inputs import collate, encode_sample, render_prompt
    from coordeval.training.probe.inputs import _stored_prompt

    meta = json.loads((RUN / "run.json").read_text())
    prompt = _stored_prompt(meta["prompt"], open_run(RUN))
    image = Image.open(FIXTURES / "scenes" / records(1)[0]["image"]).convert("RGB")
    ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
    sample = encode_sample(ids, image, reader.image_processor, reader.image_token_id)
    batch = collate([sample], pad_id=reader.pad_id, image_token_id=reader.image_token_id)
    inputs = batch.model_inputs(model.device, model.dtype)
    length = inputs["input_ids"].shape[1]
    out = []
    with torch.no_grad():
        step = model(**inputs, use_cache=True)
        for place, token in enumerate(answer):
            out.append(step.logits[0, -1].double().numpy())
            position = length + place + int(model.model.rope_deltas)
            step = model(
                input_ids=torch.tensor([[token]]),
                position_ids=torch.full((3, 1, 1), position),
                past_key_values=step.past_key_values,
                use_cache=True,
            )
    return np.stack(out)


def test_a_text_that_is_too_long_costs_only_itself(tmp_path):
    """Beyond the model's positions a text is an error of its own, and the others are probed."""
    lines = lines_of_run(3)
    lines[1] |= {"text": lines[1]["text"] * 150, "finish_reason": "length"}
    del lines[1]["token_ids"], lines[1]["token_logprobs"]
    path = write_lines(tmp_path / "bare.jsonl", lines)
    result, document = probed(run=path, limit=None, **DATA)
    (error,) = result.errors
    assert (error.id, error.context) == (lines[1]["id"], "own_rollout")
    assert "4096 positions" in error.message
    assert document["status"] == "partial"
    assert document["contexts"]["own_rollout"]["texts"] == 2
    assert document["contexts"]["ground_truth"]["texts"] == 3
    assert document["exposure_bias"]["images"] == 2


def test_failed_and_empty_rollouts_are_counted(tmp_path):
    """An engine error and an empty text are nothing to probe; their ground truth is."""
    lines = lines_of_run(3)
    lines[0] |= {"text": "", "finish_reason": "error", "error": "out of memory"}
    lines[1] |= {"text": ""}
    for line in lines[:2]:
        del line["token_ids"], line["token_logprobs"]
    lines[1]["finish_reason"] = "length"
    path = write_lines(tmp_path / "bare.jsonl", lines)
    result, document = probed(run=path, limit=None, **DATA)
    assert document["skipped"] == {"empty_text": 1, "engine_error": 1}
    assert not result.errors
    assert document["contexts"]["ground_truth"]["texts"] == 3
    assert document["contexts"]["own_rollout"]["texts"] == 1


def test_one_context_alone():
    """`gt` and `rollouts` probe one context, with the numbers that it has beside the other."""
    whole = probed(limit=3)[1]
    for texts, context in (("gt", "ground_truth"), ("rollouts", "own_rollout")):
        document = probed(limit=3, texts=texts)[1]
        assert list(document["contexts"]) == [context]
        assert document["exposure_bias"] is None
        assert document["metrics"] == pytest.approx(whole["contexts"][context]["metrics"])


def test_missing_images(tmp_path):
    """None of the images there: a hint at --image-root; a single one: an error of its texts."""
    lines = records(3)
    data = write_lines(tmp_path / "data.jsonl", lines)
    path = write_lines(tmp_path / "bare.jsonl", lines_of_run(3))
    with pytest.raises(DataError, match="--image-root"):
        probed(run=path, limit=None, data=data)
    (tmp_path / "images").mkdir()
    for line in lines[1:]:
        (tmp_path / line["image"]).write_bytes((FIXTURES / "scenes" / line["image"]).read_bytes())
    result, document = probed(run=path, limit=None, data=data)
    assert [error.id for error in result.errors] == [lines[0]["id"]] * 2
    assert "no such image" in result.errors[0].message
    assert document["contexts"]["ground_truth"]["texts"] == 2


def test_faults_are_named(tmp_path):
    """No data, another size, an integer dialect, an empty run, unknown ids: what and how to mend."""
    path = write_lines(tmp_path / "bare.jsonl", lines_of_run(2))
    with pytest.raises(DataError, match="give --data"):
        probed(run=path, limit=None)
    data = write_lines(tmp_path / "data.jsonl", [line | {"width": 65} for line in records(2)])
    with pytest.raises(DataError, match="65x64"):
        probed(run=path, limit=None, data=data)
    data = write_lines(tmp_path / "other.jsonl", records(1))
    with pytest.raises(DataError, match="lacks 1 of the run's ids"):
        probed(run=path, limit=None, data=data)
    with pytest.raises(ConfigError, match="integers"):
        probed(dialect="coordjson-bins")
    with pytest.raises(ConfigError, match="--ids"):
        probed(ids="nonsense")
    with pytest.raises(RunIncomplete, match="no rollout"):
        probed(run=write_lines(tmp_path / "empty.jsonl", []), limit=None, **DATA)
    with pytest.raises(ConfigError, match="--batch-size"):
        options(batch_size=0)


def test_a_tokenizer_without_coordinate_tokens_is_refused(tmp_path):
    """The checkpoint, the tokens and the command that mends it are named."""
    import shutil

    folder = tmp_path / "plain"
    shutil.copytree(CKPT, folder)
    raw = (folder / "tokenizer.json").read_text().replace("<|coord_", "<|place_")
    (folder / "tokenizer.json").write_text(raw)
    with pytest.raises(CheckpointError, match=r"plain.*lacks 1000 of 1000.*vocab expand"):
        probed(checkpoint=str(folder))


def test_another_checkpoint_is_allowed_and_said(both):
    """A checkpoint that did not write the run is probed on its texts, with a note."""
    assert not both[1]["notes"]
    document = probed(checkpoint=str(FIXTURES / "ckpt-300"), limit=3)[1]
    assert any("another checkpoint (ckpt-2400)" in note for note in document["notes"])
    assert document["contexts"]["own_rollout"]["metrics"]["token_acc"] < 1.0


def test_logits_that_are_not_numbers_are_errors(model, reader, monkeypatch):
    """A model that has broken down gives errors, not numbers."""
    checkpoint = resolve_checkpoint(str(CKPT))
    prober = Prober(read_inputs(options(limit=2)), checkpoint, reader, ("ground_truth",))
    weight = model.lm_head.weight
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    torch.nn.init.constant_(head.weight, float("nan"))
    monkeypatch.setattr(model, "get_output_embeddings", lambda: head)
    prober.run(model, batch_size=2)
    assert len(prober.errors) == 2
    assert "not finite" in prober.errors[0][2]
    assert all(not item.totals for item in prober.findings)


def test_a_batch_that_fails_is_halved(model, reader, monkeypatch):
    """Running out of memory with many texts goes on with fewer; alone it is an error."""
    from coordeval.training.probe import forward as probe_forward

    checkpoint = resolve_checkpoint(str(CKPT))
    told = []
    prober = Prober(
        read_inputs(options(limit=4)), checkpoint, reader, ("ground_truth",), notify=told.append
    )
    stock = probe_forward.TeacherForcing.diagnose
    largest = [1]

    def small(self, batch):
        if len(batch) > largest[0]:
            raise torch.OutOfMemoryError("no room")
        return stock(self, batch)

    monkeypatch.setattr(probe_forward.TeacherForcing, "diagnose", small)
    prober.run(model, batch_size=4)
    assert not prober.errors
    assert len(prober.findings) == 4
    assert told
    largest[0] = 0
    again = Prober(read_inputs(options(limit=1)), checkpoint, reader, ("ground_truth",))
    again.run(model, batch_size=1)
    assert "out of memory" in again.errors[0][2]


def test_polygons_and_crowds_leave_boxes_in_step(tmp_path):
    """Zero-area boxes, lines, crowds and polygons between boxes do not shift who matched whom."""
    from coordeval.records import GroundTruthObject, Sample
    from coordeval.training.probe.inputs import ProbeItem

    objects = (
        GroundTruthObject("cat", "line", (1.0, 1.0, 9.0, 9.0)),
        GroundTruthObject("cat", "bbox_2d", (40.0, 40.0, 60.0, 60.0)),
        GroundTruthObject("cat", "bbox_2d", (5.0, 5.0, 5.0, 9.0)),
        GroundTruthObject("cat", "bbox_2d", (0.0, 0.0, 63.0, 63.0), iscrowd=True),
        GroundTruthObject("cat", "poly", (2.0, 20.0, 20.0, 20.0, 20.0, 40.0)),
        GroundTruthObject("cat", "bbox_2d", (1.0, 1.0, 20.0, 15.0)),
    )
    sample = Sample(id="a", image="a.png", width=64, height=64, objects=objects)
    assert written_order(sample) == [0, 5, 2, 4, 1]
    inputs = read_inputs(options(limit=1))

    def text(*boxes):
        frame = frame_named("coordexp")
        parts = [
            '{"desc": "cat", "bbox_2d": ['
            + ", ".join(f"<|coord_{b}|>" for b in quantise(box, 64, 64, frame).bins)
            + "]}"
            for box in boxes
        ]
        return '{"objects": [' + ", ".join(parts) + "]}"

    rollout = replace(
        inputs.items[0].rollout,
        id="a",
        gt=objects,
        text=text((40, 40, 61, 60), (50, 1, 60, 8), (1, 1, 20, 15)),
    )
    (boxes,) = matched_boxes(inputs.run, [ProbeItem(sample, rollout)], inputs.dialect, inputs.frame)
    assert [(box.record, box.object_index) for box in boxes] == [(0, 1), (2, 5)]


@pytest.mark.parametrize("name", ["coordjson", "coordjson-quoted", "object-map", "object-map-bare"])
@pytest.mark.parametrize("field_order", ["desc_first", "geometry_first"])
def test_every_dialect_of_tokens_has_its_slots(reader, name, field_order):
    """Boxes, polygons and lines: every coordinate of the truth is a slot of its record."""
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import dialect_named
    from coordeval.records import GroundTruthObject, Sample
    from coordeval.training.probe.texts import TextMaker

    objects = (
        GroundTruthObject("kite, 第九 <|coord_7|>", "poly", (1.0, 1.0, 9.0, 1.0, 9.0, 30.0)),
        GroundTruthObject('a "quoted"', "bbox_2d", (5.0, 6.0, 50.0, 60.0)),
        GroundTruthObject("wire", "line", (8.0, 10.0, 20.0, 30.0)),
    )
    sample = Sample(id="a", image="a.png", width=64, height=64, objects=objects)
    table = TokenTable.from_tokenizer(reader.tokenizer, end_ids=reader.end_ids)
    frame = frame_named("coordexp")
    dialect = dialect_named(name, field_order=field_order)
    text = TextMaker(reader, table, dialect, frame).ground_truth(sample)
    placed = [place for place in text.places if place is not None]
    want = [
        (record, slot, kind, bin_)
        for record, (kind, values) in enumerate((o.kind, o.values_px) for o in objects)
        for slot, bin_ in enumerate(quantise(values, 64, 64, frame, is_box=kind == "bbox_2d").bins)
    ]
    assert [(p.record, p.slot, p.kind, p.written_bin) for p in placed] == want
    # The coordinate token inside the name is a slot by its label, in no list.
    assert len(text.places) == len(want) + 1
    assert text.bins[text.slot_tokens].tolist().count(7) == 1


def test_a_stop_keeps_what_was_done():
    """Stopped between two batches, the result holds the first ones and says so."""
    from coordeval.engines.interrupts import Interrupted

    def stop(done, _total):
        if done == 4:
            raise Interrupted(2)

    result = probe_checkpoint(options(batch_size=2), on_progress=stop)
    assert result.stopped_by == 130
    assert result.status == "partial"
    assert result.contexts["ground_truth"].texts == 4
    assert result.exposure.images == 4


def test_bfloat16_weights_are_probed_too(both):
    """In bfloat16 the numbers are near those of float32."""
    got = probed(dtype="bf16", texts="gt")[1]["metrics"]
    want = both[1]["contexts"]["ground_truth"]["metrics"]
    for key in ("coord_diag/soft_ce", "coord_diag/acc_top5", "token_acc"):
        assert got[key] == pytest.approx(want[key], rel=0.1)
