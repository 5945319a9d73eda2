"""Channel B: its batches, its terms against an independent reference, and how windows add up."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rollout_setup import FIXTURES, SCENES, channel_of, parts_of, silent, window
from stage1_setup import tiny_base

from coordeval.engines.base import Request, error_rollout, new_rollout
from coordeval.errors import ConfigError, RunIncomplete
from coordeval.training.data.batches import blanked
from coordeval.training.data.collator import model_inputs
from coordeval.training.data.labels import COORDINATE, DESCRIPTION, END, IGNORE, STRUCTURE
from coordeval.training.data.skips import Skipped
from coordeval.training.rollout_eval.ranks import Alone
from coordeval.training.stage2.channel_b import ChannelB, channel_b_objective
from coordeval.training.stage2.config import (
    ChannelBConfig,
    Stage2Config,
    TermWeights,
    TokenWeights,
)
from coordeval.training.stage2.open_channel_b import open_channel_b
from coordeval.training.stage2.prompts import BatchPrompt, check_prompt, prompts_of
from coordeval.training.stage2.target_examples import target_example
from coordeval.training.stage2.targets import BuiltTarget, TargetCounts, build_target

SHORT = {"decode": {"max_new_tokens": 12}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint with random weights."""
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def parts(base, tmp_path_factory):
    """A training of the tiny model, its rollouts a few tokens long."""
    return parts_of(base, tmp_path_factory.mktemp("run") / "out", rollout=SHORT)


def lines(samples, texts, parts, **fields):
    """Rollouts of given texts, as an engine gives them."""
    out = []
    for sample, text in zip(samples, texts, strict=True):
        ids = parts.reader.tokenizer(text, add_special_tokens=False)["input_ids"]
        request = Request(sample=sample, sample_index=0, seed=0)
        given = {"finish_reason": "stop", "token_ids": [*ids, parts.reader.end_id]} | fields
        out.append(new_rollout(request, text, **given))
    return out


class Scripted:
    """An engine that gives what a test says, by (sample id, view)."""

    def __init__(self, decode, script):
        self.decode, self.script, self.closed = decode, script, 0

    def answer(self, _model, requests):
        return [self.script(request) for request in requests]

    def close(self):
        self.closed += 1


def scripted(parts, script, *, notify=silent, views=1):
    """Channel B whose rollouts come from `script(request)`."""
    channel = channel_of(parts, notify=notify)
    decode = replace(channel._rollouts.decode, samples=views)
    channel._rollouts._engine = Scripted(decode, script)
    return channel


# ---- prompts in a batch ----


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_is_taken_apart_into_the_prompts_it_was_made_of(packing, base, tmp_path):
    """Ids, patches and grids of every sample come back, whatever the rows and the padding."""
    data = {"packing": packing, "max_length": 700}
    made = parts_of(base, tmp_path / "run", rollout=SHORT, data=data)
    dataset = made.train
    batch = dataset.collator()([dataset[number] for number in range(min(3, len(dataset)))])
    prompts = prompts_of(batch)
    if packing:
        assert len(batch["input_ids"]) < len(prompts)
    by_id = {sample.id: number for number, sample in enumerate(dataset.samples)}
    assert [prompt.sample_id for prompt in prompts] == batch["sample_ids"]
    for prompt in prompts:
        whole = dataset.item(by_id[prompt.sample_id])
        length = int((whole.labels == -100).sum())
        assert torch.equal(prompt.input_ids, whole.input_ids[:length])
        assert torch.equal(prompt.pixel_values, whole.pixel_values)
        assert torch.equal(prompt.grid_thw, whole.grid_thw)


def test_fillers_have_no_prompts(parts):
    """Neither a blanked batch nor one of which nothing could be read."""
    (batch,) = window(parts, (0, 1))
    assert prompts_of(blanked(batch)) == []
    skipped = parts.train.collator()([Skipped("gone", "no such file")])
    assert prompts_of(skipped) == []


def test_a_sample_without_labels_is_refused(parts):
    """Where a prompt ends cannot be guessed."""
    (batch,) = window(parts, (0,))
    with pytest.raises(ValueError, match="no label"):
        prompts_of(batch | {"labels": torch.full_like(batch["labels"], -100)})


@pytest.mark.parametrize(
    ("rendered", "read", "message"),
    [
        ([5, 9, 6], 6, None),
        ([5, 9, 6], None, None),
        ([5, 9, 7], 6, "is not the one that is trained on"),
        ([5, 9], 6, "is not the one that is trained on"),
        ([9, 5, 6], 6, "is not the one that is trained on"),
        ([5, 9, 6], 5, "read 5 prompt tokens.*reads 6"),
    ],
)
def test_a_rollout_of_another_prompt_is_refused(rendered, read, message, parts):
    """Ids are compared with the image counted as one token, and lengths with all of them."""
    ids = torch.tensor([5, 9, 9, 9, 9, 6])
    prompt = BatchPrompt("one", ids, torch.zeros(1), torch.ones(3))
    request = Request(sample=parts.train.samples[0], sample_index=0, seed=0)
    rollout = new_rollout(request, "", prompt_tokens=read)
    failed = error_rollout(request, "away")
    if message is None:
        check_prompt(prompt, [rollout, failed], rendered, 9)
        return
    with pytest.raises(ConfigError, match=message):
        check_prompt(prompt, [failed, rollout], rendered, 9)


# ---- the batches of a window ----


def test_a_window_keeps_its_shape_its_prompts_and_its_pixels(parts):
    """As many batches; fillers untouched, skipped samples kept; targets behind the same prompts."""
    collate = parts.train.collator()
    mixed = collate([parts.train[3], Skipped("gone", "no such file"), parts.train[4]])
    (plain,) = window(parts, (0, 1))
    empty = collate([Skipped("gone too", "nothing")])
    batches = [plain, mixed, blanked(plain), empty]
    channel = channel_of(parts)
    made = channel.prepare(batches, 2)
    assert len(made) == 4
    assert made[2].keys() == batches[2].keys()
    assert all(made[2][key] is batches[2][key] for key in made[2])
    assert made[3]["skipped"] == empty["skipped"]
    assert made[3]["sample_ids"] == []
    assert [skip.id for skip in made[1]["skipped"]] == ["gone"]
    for before, after in zip(batches[:2], made[:2], strict=True):
        assert after["sample_ids"] == before["sample_ids"]
        assert torch.equal(after["pixel_values"], before["pixel_values"])
        assert torch.equal(after["image_grid_thw"], before["image_grid_thw"])
        for prompt, other in zip(prompts_of(before), prompts_of_any(after), strict=True):
            assert torch.equal(prompt.input_ids, other)


def prompts_of_any(batch):
    """Ids up to the image's end and the rest of the prompt: all that has no weight and no label."""
    out = []
    for number in range(len(batch["sample_ids"])):
        row, columns = torch.nonzero(batch["segment_ids"] == number, as_tuple=True)
        ids = batch["input_ids"][row, columns]
        kinds = batch["token_kinds"][row, columns]
        out.append(ids[: int((kinds != IGNORE).int().argmax())])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("style", ["prefix", "clean"])
@pytest.mark.parametrize("name", ["ckpt-2400", "ckpt-loops"])
def test_rows_hold_the_targets_of_the_rollouts(name, style, tmp_path):
    """Labels, kinds, weights, boxes and unlikely tokens are those of `build_target`, moved."""
    made = parts_of(
        FIXTURES / name,
        tmp_path / "run",
        rollout={"views": 2, "decode": {"max_new_tokens": 200, "loop_guard": "mark"}},
        channel={"target": style},
    )
    channel = channel_of(made)
    heard = []
    roll = channel._rollouts.roll
    channel._rollouts.roll = lambda *a, **k: heard.append(roll(*a, **k)) or heard[-1]
    before = window(made, (0, 1), (2,))
    after = channel.prepare(before, 0)
    samples = {sample.id: sample for sample in made.train.samples}
    expected = [
        (rollout, build_target(rollout, samples[rollout.id], channel._targets._context))
        for views in heard[0]
        for rollout in views
    ]
    assert [batch["sample_ids"] for batch in after] == [
        [name for name in batch["sample_ids"] for _ in range(2)] for batch in before
    ]
    for batch, prompts in zip(after, map(prompts_of, before), strict=True):
        length = batch["labels"].shape[1]
        boxes, unlikely = [], []
        for row, prompt in enumerate(prompt for prompt in prompts for _ in range(2)):
            _, target = expected.pop(0)
            start, stop = len(prompt.input_ids), len(prompt.input_ids) + len(target.token_ids)
            assert batch["input_ids"][row, :start].tolist() == prompt.input_ids.tolist()
            assert batch["input_ids"][row, start:stop].tolist() == target.token_ids
            assert batch["labels"][row, start:stop].tolist() == target.labels_T.tolist()
            assert batch["token_kinds"][row, start:stop].tolist() == target.kinds_T.tolist()
            assert batch["token_weights"][row, start:stop].tolist() == target.weights_T.tolist()
            outside = torch.cat([batch["labels"][row, :start], batch["labels"][row, stop:]])
            assert bool((outside == -100).all())
            boxes += (target.boxes_M4 + row * length + start).tolist()
            unlikely += [
                [int(place) + row * length + start, int(token)]
                for place, token in target.unlikely_U2
            ]
        assert batch["box_slots"].tolist() == boxes
        assert batch["unlikely"].tolist() == unlikely
    assert expected == []
    counted = channel.telemetry()
    assert counted["rollout/target/rollouts"] == 6
    assert counted["rollout/samples/total"] == 3


@pytest.mark.slow
def test_a_step_of_every_fixture_is_finite_and_learns(tmp_path):
    """Drops, wrong arity, loops and the guard's ends: finite loss and gradients, in both styles."""
    settings = {
        "shapes-final": ("clean", {}),
        "ckpt-2400": ("prefix", {}),
        "ckpt-loops": ("clean", {"loop_guard": "stop", "guard_exact": 3}),
    }
    for name, (style, decode) in settings.items():
        made = parts_of(
            FIXTURES / name,
            tmp_path / "run",
            rollout={"decode": {"max_new_tokens": 220} | decode},
            channel={"target": style},
        )
        channel = channel_of(made)
        (batch,) = channel.prepare(window(made, (0, 1, 2)), 0)
        counts = channel.counts(batch)
        computed = channel(made.model, batch, channel.divisors(counts))
        computed.loss.backward()
        assert math.isfinite(float(computed.loss.detach()))
        norms = [p.grad.norm() for p in made.model.parameters() if p.grad is not None]
        total = float(torch.stack(norms).norm())
        assert math.isfinite(total)
        assert total > 0
        assert {key: term.num_tokens for key, term in computed.terms.items()} == counts
        if name == "ckpt-loops":
            assert counts["B/unlikelihood"] > 0
            assert channel.telemetry()["rollout/guard/stopped"] > 0


def test_the_same_step_is_prepared_the_same_again(parts):
    """What a resumed training does is what it would have done."""
    batches = window(parts, (0, 1), (2,))
    first = channel_of(parts).prepare(batches, 4)
    second = channel_of(parts).prepare(batches, 4)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key]
            assert same, key


# ---- lengths and packing ----


def looping(parts, copies=40):
    """A script whose answers are one far object again and again, closed at last."""
    record = '{"desc": "red circle", "bbox_2d": [%s]}'
    texts = [
        record % ", ".join(f"<|coord_{value}|>" for value in (k, 1, k + 20, 30))
        for k in range(copies)
    ]
    text = '{"objects": [' + ", ".join(texts) + "]}"

    def script(request):
        (line,) = lines([request.sample], [text], parts)
        return line

    return script


@pytest.mark.parametrize("packing", [False, True])
def test_a_target_that_is_too_long_gives_way_to_the_truth(packing, base, tmp_path):
    """It is counted, never cut: the whole ground truth from an empty start, within the length."""
    made = parts_of(
        base,
        tmp_path / "run",
        rollout=SHORT,
        channel={"target": "prefix"},
        data={"max_length": 420, "packing": packing},
    )
    channel = scripted(made, looping(made))
    rows = [made.train[number] for number in range(len(made.train))]
    batch = made.train.collator()(rows)
    (after,) = channel.prepare([batch], 0)
    assert after["input_ids"].shape[1] <= 420
    number = len(batch["sample_ids"])
    assert sorted(after["sample_ids"]) == sorted(batch["sample_ids"])
    counted = channel.telemetry()
    assert counted["rollout/target/over_length"] == number
    assert counted["rollout/target/found"] == 40 * number
    context = channel._targets._context
    samples = {sample.id: sample for sample in made.train.samples}
    taught = {}
    for place, name in enumerate(after["sample_ids"]):
        row, columns = torch.nonzero(after["segment_ids"] == place, as_tuple=True)
        labels = after["labels"][row, columns]
        taught[name] = labels[labels != -100].tolist()
    for name, ids in taught.items():
        request = Request(sample=samples[name], sample_index=0, seed=0)
        truth = build_target(error_rollout(request, "none"), samples[name], context)
        assert ids == truth.token_ids


def test_packed_rows_are_packed_anew_and_teach_the_same(base, tmp_path):
    """Every term of packed rows equals that of the same targets one to a row."""
    sums = {}
    for packing in (False, True):
        data = {"packing": packing, "max_length": 900}
        made = parts_of(base, tmp_path / "run", rollout=SHORT | {"views": 2}, data=data)
        channel = channel_of(made)
        if packing:
            batches = [made.train.collator()([made.train[k] for k in range(len(made.train))])]
        else:
            batches = window(made, range(8))
        (after,) = channel.prepare(batches, 1)
        if packing:
            assert "position_ids" in after
            assert len(after["input_ids"]) < 16
        counts = channel.counts(after)
        made.model.eval()
        terms = channel(made.model, after, channel.divisors(counts)).terms
        sums[packing] = {key: (float(t.loss_sum), t.num_tokens) for key, t in terms.items()}
    for key, (loss_sum, count) in sums[False].items():
        assert sums[True][key][1] == pytest.approx(count)
        assert sums[True][key][0] == pytest.approx(loss_sum, rel=2e-5, abs=1e-5), key


# ---- failures ----


def test_failed_rollouts_teach_the_truth_and_are_told(parts):
    """An error line costs no sample; `notify` hears how many there were, and the first reason."""
    notes = []

    def script(request):
        if request.id == parts.train.samples[1].id:
            return error_rollout(request, "the cable was cut")
        (line,) = lines([request.sample], ['{"objects": []}'], parts)
        return line

    channel = scripted(parts, script, notify=notes.append)
    notes.clear()  # the token limit of these tests is short
    (after,) = channel.prepare(window(parts, (0, 1)), 6)
    assert len(after["sample_ids"]) == 2
    who = parts.train.samples[1].id
    assert notes == [f"step 7: 1 of 2 training rollouts failed (first {who!r}: the cable was cut)"]
    counted = channel.telemetry()
    assert counted["rollout/samples/errors"] == counted["rollout/target/failed"] == 1


def test_a_training_stops_where_no_rollout_works_any_more(parts):
    """Three steps in a row without any are the end; one that works starts the count anew."""
    works = [False, False, True, False, False, False]
    channel = scripted(parts, None)

    def script(request):
        if works[0]:
            return lines([request.sample], ["{}"], parts)[0]
        return error_rollout(request, "gone")

    channel._rollouts._engine.script = script
    batches = window(parts, (0,))
    for step in range(5):
        channel.prepare(batches, step)
        works.pop(0)
        channel.prepare([blanked(batches[0])], step)  # nothing to roll is neither
    with pytest.raises(RunIncomplete, match=r"3 rollout steps in a row failed.*gone"):
        channel.prepare(batches, 5)


def test_what_is_wrong_on_one_process_is_raised_on_all(parts):
    """No process is left waiting for one that has given up."""

    class Two(Alone):
        world = 2

        def gather(self, value):
            return [value, "the prompt differs"]

    channel = channel_of(parts)
    channel._ranks = Two()
    with pytest.raises(ConfigError, match="process 1: the prompt differs"):
        channel.prepare([blanked(window(parts, (0,))[0])], 0)


def test_another_prompt_stops_the_step(parts):
    """A rollout that read another prompt than training does is no example for it."""
    channel = channel_of(parts)
    channel._rollouts.prompt_ids = channel._rollouts.prompt_ids[1:]
    with pytest.raises(ConfigError, match="trained on"):
        channel.prepare(window(parts, (0,)), 0)


def test_no_weight_at_all_is_refused():
    """A channel that would teach nothing is a mistake."""
    nothing = dict.fromkeys(TermWeights().by_name(), 0.0)
    config = Stage2Config(
        coord_gate_weight=0.0,
        channel_b=ChannelBConfig(text_ce=0, unlikelihood=0, weights=TermWeights(**nothing)),
    )
    with pytest.raises(ConfigError, match="no term has a weight"):
        channel_b_objective(config, range(1000))


@pytest.mark.parametrize(
    ("alone", "named"),
    [
        ({"unlikelihood": 1.0, "target": "prefix"}, "unlikelihood"),
        (
            {
                "text_ce": 1.0,
                "tokens": TokenWeights(matched_struct=0, missed_struct=0, missed_desc=0, closing=0),
            },
            "text_ce",
        ),
    ],
)
def test_a_term_that_has_nothing_to_stand_on_is_no_term(alone, named):
    """Prefix targets leave out no repeats, and tokens that weigh nothing are not taught."""
    nothing = TermWeights(**dict.fromkeys(TermWeights().by_name(), 0.0))
    channel = ChannelBConfig(**({"text_ce": 0, "unlikelihood": 0, "weights": nothing} | alone))
    config = Stage2Config(coord_gate_weight=0.0, channel_b=channel)
    with pytest.raises(ConfigError, match=f"no term has a weight.*{named}"):
        channel_b_objective(config, range(1000))
    gated = replace(config, coord_gate_weight=1.0)
    assert "gate" in channel_b_objective(gated, range(1000)).weights


@pytest.mark.parametrize(("stage", "refused"), [(2, False), (3, True)])
def test_deepspeed_is_refused_where_it_cuts_weights_up(stage, refused, parts):
    """Below the third stage every process has the weights whole, and decodes with them."""
    plugin = SimpleNamespace(zero_stage=stage)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    accelerator = SimpleNamespace(autocast=nullcontext, state=state)
    trainer = SimpleNamespace(model=parts.model, accelerator=accelerator)
    if refused:
        with pytest.raises(ConfigError, match="sharded"):
            open_channel_b(parts, trainer, silent)
    else:
        open_channel_b(parts, trainer, silent)


def test_closing_stops_the_engine(parts):
    """`close` reaches what makes the rollouts."""
    channel = scripted(parts, None)
    channel.close()
    assert channel._rollouts._engine.closed == 1


# ---- terms against a float64 reference ----

WEIGHTS = TermWeights(
    hard_ce=0.7, soft_ce=0.3, w1=0.2, text_gate=0.15, smooth_l1=1.5, ciou=0.4, giou=0.25
)
CONFIG = Stage2Config(
    b_ratio=1.0,
    coord_gate_weight=0.6,
    sigma=1.5,
    truncate=6,
    temperature=1.3,
    channel_b=ChannelBConfig(text_ce=0.9, weights=WEIGHTS, unlikelihood=0.8),
)
SCALE = {"text_ce": 0.9, "gate": 0.6, "unlikelihood": 0.8, **WEIGHTS.by_name()}


def hand_made(coord_ids, end_id, seed, boxes=2):
    """A target with every kind of position: untaught, weighed, slots with other true bins."""
    draw = np.random.default_rng(seed)
    taken = {*coord_ids, end_id}
    words = [int(w) for w in draw.choice([i for i in range(20, 300) if i not in taken], 12)]
    ids, labels, kinds, weights, slots = [], [], [], [], []

    def put(token, label, kind, weight):
        ids.append(token)
        labels.append(label)
        kinds.append(kind)
        weights.append(weight)
        return len(ids) - 1

    put(words[0], words[0], STRUCTURE, 1.0)
    put(words[1], -100, IGNORE, 0.0)  # a false positive's token
    put(coord_ids[int(draw.integers(1000))], -100, IGNORE, 0.0)  # and its coordinate
    for number in range(boxes):
        put(words[2], words[2], DESCRIPTION, 0.25)
        put(words[3], words[3], STRUCTURE, 2.0)
        x1, y1 = draw.integers(0, 500, 2)
        true = [x1, y1, x1 + draw.integers(20, 400), y1 + draw.integers(20, 400)]
        slots.append(
            [
                put(coord_ids[int(draw.integers(1000))], coord_ids[int(b)], COORDINATE, 0.0)
                for b in true
            ]
        )
        if number == 0:
            put(words[4], -100, IGNORE, 0.0)
    put(coord_ids[7], coord_ids[9], COORDINATE, 0.0)  # a slot of no box
    put(end_id, end_id, END, 0.5)
    unlikely = [[1, words[5]], [1, words[6]], [4, words[7]], [slots[0][1], coord_ids[3]]]
    return BuiltTarget(
        token_ids=ids,
        labels_T=np.array(labels),
        kinds_T=np.array(kinds, dtype=np.uint8),
        weights_T=np.array(weights, dtype=np.float32),
        boxes_M4=np.array(slots),
        unlikely_U2=np.array(unlikely),
        counts=TargetCounts(),
    )


def reference(logits_TV, target, coord_ids, end_id):
    """Sum and count of every term in float64, from the logits that predict each target token."""
    ids = np.array(coord_ids)
    logits_TV = logits_TV.astype(np.float64)
    out = dict.fromkeys(SCALE, (0.0, 0.0))

    def add(name, value, count):
        out[name] = (out[name][0] + value, out[name][1] + count)

    def logsumexp(values):
        top = values.max()
        return top + np.log(np.exp(values - top).sum())

    def cut(row):
        return (row / CONFIG.temperature)[ids]

    bins = np.arange(1000)
    for row, label, weight in zip(logits_TV, target.labels_T, target.weights_T, strict=True):
        if label == -100:
            continue
        tempered = row / CONFIG.temperature
        coordinate_mass = math.exp(logsumexp(tempered[ids]) - logsumexp(tempered))
        if label not in ids:
            add("text_ce", float(weight) * (logsumexp(row) - row[label]), float(weight))
            if label != end_id:
                add("text_gate", -math.log(1 - coordinate_mass), 1)
            continue
        true = int(np.flatnonzero(ids == label)[0])
        add("hard_ce", logsumexp(row) - row[label], 1)
        add("gate", -math.log(coordinate_mass), 1)
        p = np.exp(cut(row) - logsumexp(cut(row)))
        q = np.exp(-0.5 * ((bins - true) / CONFIG.sigma) ** 2)
        q[np.abs(bins - true) > CONFIG.truncate] = 0
        q /= q.sum()
        add("soft_ce", -(q[q > 0] * np.log(p[q > 0])).sum(), 1)
        add("w1", np.abs(np.cumsum(p - q)).sum() / 999, 1)
    for box in target.boxes_M4:
        found, true = [], []
        for slot in box:
            p = np.exp(logits_TV[slot][ids] - logsumexp(logits_TV[slot][ids]))
            found.append((p * bins).sum() / 999)
            true.append(int(np.flatnonzero(ids == target.labels_T[slot])[0]) / 999)
        for name, value in zip(
            ("smooth_l1", "ciou", "giou"), box_terms(np.array(found), np.array(true)), strict=True
        ):
            add(name, value, 1)
    for place, token in target.unlikely_U2:
        row = logits_TV[place]
        add("unlikelihood", -math.log1p(-math.exp(row[token] - logsumexp(row))), 1)
    return out


def box_terms(found, true):
    """Smooth L1 (mean of four, beta 1), CIoU and GIoU losses of one box with corners in order."""
    found = np.concatenate([np.minimum(found[:2], found[2:]), np.maximum(found[:2], found[2:])])
    sides, true_sides = found[2:] - found[:2], true[2:] - true[:2]
    shared = np.prod(np.clip(np.minimum(found, true)[2:] - np.maximum(found, true)[:2], 0, None))
    union = np.prod(sides) + np.prod(true_sides) - shared
    around = np.maximum(found, true)[2:] - np.minimum(found, true)[:2]
    iou = shared / union
    centre = ((found[:2] + found[2:] - true[:2] - true[2:]) / 2) ** 2
    angle = math.atan2(*true_sides) - math.atan2(*sides)
    v = 4 / math.pi**2 * angle**2
    ciou = 1 - iou + centre.sum() / (around**2).sum() + v**2 / (1 - iou + v)
    giou = 1 - iou + (np.prod(around) - union) / np.prod(around)
    return float(((found - true) ** 2 / 2).mean()), float(ciou), float(giou)


@pytest.fixture(scope="module")
def taught(parts, tmp_path_factory):
    """Channel B without rollouts, two hand-made batches, and their prompts."""
    objective = channel_b_objective(
        CONFIG, parts.coord_ids, end_ids=sorted(parts.reader.end_ids), chunk=5
    )
    channel = ChannelB.__new__(ChannelB)
    super(ChannelB, channel).__init__(
        parts.model, objective, autocast=nullcontext, coord_ids_K=None, at="B/"
    )
    collate = parts.train.collator()
    made = []
    for numbers, boxes in (((0, 1), 2), ((2,), 1)):
        (batch,) = window(parts, numbers)
        targets = [hand_made(parts.coord_ids, parts.reader.end_id, seed, boxes) for seed in numbers]
        examples = [
            target_example(prompt, target)
            for prompt, target in zip(prompts_of(batch), targets, strict=True)
        ]
        made.append((collate(examples), targets, examples))
    return SimpleNamespace(channel=channel, made=made, collate=collate, objective=objective)


def test_every_term_equals_an_independent_reference(parts, taught):
    """Sums, counts and the loss over hand-made targets, in float64 from the model's logits."""
    parts.model.eval()
    for batch, targets, examples in taught.made:
        with torch.no_grad():
            logits = parts.model(**model_inputs(batch)).logits.double().numpy()
        expected = dict.fromkeys(SCALE, (0.0, 0.0))
        for row, (target, example) in enumerate(zip(targets, examples, strict=True)):
            start = len(example.input_ids) - len(target.token_ids)
            rows = logits[row, start - 1 : start - 1 + len(target.token_ids)]
            own = reference(rows, target, parts.coord_ids, parts.reader.end_id)
            expected = {k: (v[0] + own[k][0], v[1] + own[k][1]) for k, v in expected.items()}
        counts = taught.channel.counts(batch)
        assert counts == pytest.approx({f"B/{k}": v[1] for k, v in expected.items()})
        computed = taught.channel(parts.model, batch, taught.channel.divisors(counts))
        for name, (loss_sum, count) in expected.items():
            term = computed.terms[f"B/{name}"]
            assert term.num_tokens == pytest.approx(count)
            assert float(term.loss_sum) == pytest.approx(loss_sum, rel=2e-4, abs=1e-6), name
        total = sum(SCALE[k] * v[0] / v[1] for k, v in expected.items())
        assert float(computed.loss.detach()) == pytest.approx(total, rel=1e-4)
    assert set(taught.channel.names) == {f"B/{name}" for name in SCALE}
    assert set(taught.channel.weights) == set(taught.channel.names)


def _gradients(model, channel, batches, divisors):
    model.zero_grad(set_to_none=True)
    losses = []
    for batch in batches:
        computed = channel(model, batch, divisors)
        computed.loss.backward()
        losses.append(float(computed.loss.detach()))
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return sum(losses), found


def test_a_window_in_parts_is_the_window_at_once(parts, taught):
    """[a, b] = [a] + [b] in loss and gradient, with the counts of both; a filler adds nothing."""
    parts.model.eval()
    (a, _, of_a), (b, _, of_b) = taught.made
    whole = taught.collate([*of_a, *of_b])
    counts = taught.channel.counts(whole)
    apart = [taught.channel.counts(batch) for batch in (a, b, blanked(a))]
    assert counts == pytest.approx({k: sum(part[k] for part in apart) for k in counts})
    assert all(value == 0 for value in apart[2].values())
    divisors = taught.channel.divisors(counts)
    loss, gradient = _gradients(parts.model, taught.channel, [whole], divisors)
    for batches in ([a, b], [b, blanked(a), a]):
        other, parts_gradient = _gradients(parts.model, taught.channel, batches, divisors)
        assert other == pytest.approx(loss, rel=1e-6)
        for name, value in gradient.items():
            assert torch.allclose(parts_gradient[name], value, rtol=1e-4, atol=1e-7), name


def test_diagnoses_stand_at_their_place(parts, tmp_path):
    """`coord_diag/B/...` is of the taught slots of the rollouts' targets."""
    channel = channel_of(parts)
    (batch,) = channel.prepare(window(parts, (0, 1)), 0)
    assert channel.diagnosed_at == ("B/",)
    diagnosed = {"B/": []}
    channel(parts.model, batch, channel.divisors(channel.counts(batch)), diagnosed=diagnosed)
    seen = sum(int(totals.sums[0]) for totals in diagnosed["B/"])
    assert seen > 0


def test_order_follows_the_epoch(base, tmp_path):
    """Random order of true objects is that of stage 1 in the same epoch."""
    made = parts_of(base, tmp_path / "run", rollout=SHORT, data={"order": "random"})
    channel = scripted(made, lambda request: lines([request.sample], ["nothing here"], made)[0])
    orders = set()
    for epoch in range(3):
        made.train.set_epoch(epoch)
        before = window(made, range(4))
        (after,) = channel.prepare(before, epoch)
        labels = [row[row != -100].tolist() for row in after["labels"]]
        assert labels == [row[row != -100].tolist() for row in before[0]["labels"]]
        orders.add(str(labels))
    assert len(orders) == 3


def test_what_is_found_on_a_crowd_region_is_no_false_positive(tmp_path):
    """Crowd regions are not taught, but channel B knows of them when it judges rollouts."""
    line = json.loads(SCENES.read_text().splitlines()[0])
    names = sorted({one["desc"] for one in line["objects"]})
    counts = {}
    for name, crowd in (("absent", False), ("crowd", True)):
        annotations = [
            {
                "id": number,
                "image_id": 1,
                "category_id": 1 + names.index(one["desc"]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": int(number == 0),
            }
            for number, one in enumerate(line["objects"])
            for x1, y1, x2, y2 in [one["bbox_2d"]]
            if number or crowd
        ]
        whole = {
            "images": [{"id": 1, "file_name": line["image"], "width": 64, "height": 64}],
            "annotations": annotations,
            "categories": [{"id": 1 + at, "name": one} for at, one in enumerate(names)],
        }
        data = tmp_path / f"{name}.json"
        data.write_text(json.dumps(whole))
        parts = parts_of(
            FIXTURES / "shapes-final",
            tmp_path / name,
            data={"train": str(data), "image_root": str(SCENES.parent)},
        )
        channel = channel_of(parts)
        channel.prepare(window(parts, [0]), 0)
        told = channel.telemetry()
        counts[name] = [told[f"rollout/target/{key}"] for key in ("false_positives", "on_crowd")]
        assert told["rollout/target/matched"] + told["rollout/target/missed"] == 3
    assert counts == {"absent": [1, 0], "crowd": [0, 1]}
