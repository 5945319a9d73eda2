"""Promises about decoding with Hugging Face, on a random tiny Qwen3-VL in float32."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402

from coordeval.data.pixels import PixelLimits  # noqa: E402
from coordeval.data.prompts import Prompt, build_messages, default_prompt  # noqa: E402
from coordeval.engines import hf as hf_module  # noqa: E402
from coordeval.engines.base import DecodeSettings  # noqa: E402
from coordeval.engines.checkpoint import resolve_checkpoint  # noqa: E402
from coordeval.engines.hf import HfEngine  # noqa: E402
from coordeval.engines.hf_inputs import Batch, collate, encode_sample, render_prompt  # noqa: E402
from coordeval.engines.hf_loading import load_model, load_reader  # noqa: E402
from coordeval.engines.runner import make_requests  # noqa: E402
from coordeval.errors import ConfigError  # noqa: E402
from coordeval.parsers.dialects import dialect_named  # noqa: E402

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PROMPT = default_prompt(dialect=dialect_named("coordjson"))
GREEDY = DecodeSettings(max_new_tokens=16)
SAMPLED = DecodeSettings(
    max_new_tokens=12, temperature=1.2, top_p=0.9, top_k=400, samples=2, seed=3
)


@pytest.fixture(scope="module")
def model(checkpoint_dir):
    return load_model(resolve_checkpoint(str(checkpoint_dir)), device=CPU, dtype=torch.float32)


@pytest.fixture
def reader(checkpoint_dir):
    return load_reader(resolve_checkpoint(str(checkpoint_dir)))


@pytest.fixture
def engine(model, reader):
    """Makes engines around the one model."""

    def make(decode=GREEDY, **options):
        arguments = {"reader": reader, "load": lambda: model, "prompt": PROMPT, "dtype": "fp32"}
        return HfEngine(decode=decode, **(arguments | options))

    return make


def run(engine, requests):
    return {
        (rollout.id, rollout.sample_index): rollout
        for batch in engine.generate(requests)
        for rollout in batch
    }


def same_answers(one, other):
    assert one.keys() == other.keys()
    for key, rollout in one.items():
        assert rollout.token_ids == other[key].token_ids
        assert rollout.text == other[key].text
        assert rollout.finish_reason == other[key].finish_reason
        assert rollout.prompt_tokens == other[key].prompt_tokens
        assert rollout.token_logprobs == pytest.approx(other[key].token_logprobs, abs=1e-4)


@pytest.mark.parametrize("decode", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_results_do_not_depend_on_batch_size_or_order(engine, image_samples, decode):
    """Mixed image sizes, padded or alone, forwards or backwards: the same tokens."""
    requests = make_requests(image_samples, decode)
    alone = run(engine(decode, batch_size=1), requests)
    same_answers(alone, run(engine(decode, batch_size=8), requests))
    same_answers(alone, run(engine(decode, batch_size=3), requests[::-1]))


def test_results_do_not_depend_on_which_samples_are_asked_for(engine, image_samples):
    """A resumed sampled run continues as if it had never been stopped."""
    requests = make_requests(image_samples, SAMPLED)
    whole = run(engine(SAMPLED, batch_size=4), requests)
    rest = run(engine(SAMPLED, batch_size=4), requests[3:])
    same_answers({key: whole[key] for key in rest}, rest)


def test_penalty_does_not_see_padding(engine, image_samples):
    """Under a repetition penalty, rows that were padded write what they write alone."""
    decode = dataclasses.replace(GREEDY, repetition_penalty=1.8)
    requests = make_requests(image_samples, decode)
    penalised = run(engine(decode, batch_size=5), requests)
    same_answers(run(engine(decode, batch_size=1), requests), penalised)
    free = run(engine(batch_size=5), requests)
    assert any(free[key].token_ids != penalised[key].token_ids for key in free)


def test_sampling_depends_on_the_seed_and_the_index(engine, image_samples):
    """Two samples of an image differ, and so do two seeds."""
    rollouts = run(engine(SAMPLED), make_requests(image_samples, SAMPLED))
    other = dataclasses.replace(SAMPLED, seed=4)
    reseeded = run(engine(other), make_requests(image_samples, other))
    assert rollouts["im0", 0].token_ids != rollouts["im0", 1].token_ids
    assert all(rollouts[key].token_ids != reseeded[key].token_ids for key in rollouts)


def teacher_forced_logprobs(model, reader, sample, token_ids):
    """Log-probabilities by one unpadded forward pass over prompt and answer, in float64."""
    with Image.open(sample.image_path) as image:
        features = reader.image_processor(images=[image.convert("RGB")], return_tensors="pt")
    merged = int(features["image_grid_thw"].prod()) // reader.image_processor.merge_size**2
    text = reader.tokenizer.apply_chat_template(
        build_messages(PROMPT), tokenize=False, add_generation_prompt=True
    )
    text = text.replace("<|image_pad|>", "<|image_pad|>" * merged)
    prompt_ids = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt_ids + token_ids])
    types = torch.zeros_like(ids)
    types[:, : len(prompt_ids)] = ids[:, : len(prompt_ids)] == reader.image_token_id
    with torch.no_grad():
        logits = (
            model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=types.int(),
                pixel_values=features["pixel_values"],
                image_grid_thw=features["image_grid_thw"],
            )
            .logits[0]
            .double()
        )
    start = len(prompt_ids) - 1
    table = logits[start : start + len(token_ids)].log_softmax(-1)
    return [table[step, token].item() for step, token in enumerate(token_ids)], len(prompt_ids)


@pytest.mark.parametrize(
    "decode",
    [
        GREEDY,
        SAMPLED,
        dataclasses.replace(SAMPLED, temperature=0.4, top_k=3, repetition_penalty=1.5),
    ],
    ids=["greedy", "sampled", "penalised"],
)
def test_logprobs_are_those_of_the_model_itself(engine, model, reader, image_samples, decode):
    """However tokens were chosen, their log-probabilities equal a teacher-forced forward pass."""
    rollouts = run(engine(decode, batch_size=5), make_requests(image_samples, decode))
    for sample in image_samples:
        rollout = rollouts[sample.id, 0]
        expected, prompt_tokens = teacher_forced_logprobs(model, reader, sample, rollout.token_ids)
        assert rollout.token_logprobs == pytest.approx(expected, abs=2e-4)
        assert rollout.prompt_tokens == prompt_tokens


def test_greedy_takes_the_most_probable_token(engine, image_samples, model, reader):
    """Each greedy token has the largest logit of a plain forward pass over what precedes it."""
    rollout = run(engine(), make_requests(image_samples[2:3], GREEDY))["im2", 0]
    best = rollout.token_ids[0]
    for rival in range(0, len(reader.tokenizer), 37):
        value, _ = teacher_forced_logprobs(model, reader, image_samples[2], [rival])
        assert value[0] <= rollout.token_logprobs[0] + 1e-5 or rival == best


def test_image_positions_are_always_passed(engine, image_samples, monkeypatch):
    """Without mm_token_type_ids the model silently computes something else: so they go along."""
    requests = make_requests(image_samples[2:4], GREEDY)
    right = run(engine(), requests)
    inputs = Batch.model_inputs

    def without(self, device, dtype):
        kept = inputs(self, device, dtype)
        assert int(kept["mm_token_type_ids"].sum()) > 0
        del kept["mm_token_type_ids"]
        return kept

    monkeypatch.setattr(Batch, "model_inputs", without)
    wrong = run(engine(), requests)
    assert any(
        abs(a - b) > 1e-2
        for key in right
        for a, b in zip(right[key].token_logprobs, wrong[key].token_logprobs, strict=False)
    )


def test_collation_pads_on_the_left_and_marks_images(reader, image_samples):
    """Padding precedes the prompt, is masked, and is no image."""
    prompt_ids = render_prompt(reader.tokenizer, PROMPT, reader.image_token_id)
    encoded = []
    for sample in image_samples[:3]:
        with Image.open(sample.image_path) as image:
            encoded.append(
                encode_sample(prompt_ids, image, reader.image_processor, reader.image_token_id)
            )
    batch = collate(encoded, pad_id=reader.pad_id, image_token_id=reader.image_token_id)
    for row, sample in enumerate(encoded):
        padding = batch.input_ids_BS.shape[1] - len(sample.prompt_ids)
        assert batch.input_ids_BS[row, padding:].tolist() == sample.prompt_ids
        assert batch.attention_mask_BS[row].tolist() == [0] * padding + [1] * len(sample.prompt_ids)
        expected = [int(token == reader.image_token_id) for token in sample.prompt_ids]
        assert batch.mm_token_type_ids_BS[row].tolist() == [0] * padding + expected
    assert batch.pixel_values_PD.shape[0] == int(batch.image_grid_thw_B3.prod(dim=1).sum())


def test_end_tokens_stop_a_row_and_are_cut_from_its_text(engine, reader, image_samples):
    """A row that ends keeps its end token in token_ids only; its neighbours write on."""
    requests = make_requests(image_samples, GREEDY)
    free = run(engine(), requests)
    end = free["im0", 0].token_ids[5]
    ending = dataclasses.replace(reader, end_ids=frozenset({end}))
    stopped = run(engine(reader=ending), requests)
    reasons = set()
    for key, rollout in stopped.items():
        whole = free[key].token_ids
        cut = whole.index(end) + 1 if end in whole else len(whole)
        assert rollout.token_ids == whole[:cut]
        assert len(rollout.token_logprobs) == cut
        assert rollout.finish_reason == ("stop" if end in whole else "length")
        body = rollout.token_ids[:-1] if end in whole else rollout.token_ids
        assert rollout.text == reader.tokenizer.decode(body, skip_special_tokens=False)
        reasons.add(rollout.finish_reason)
    assert reasons == {"stop", "length"}


def test_generation_defaults_of_the_checkpoint_do_not_leak_in(
    engine, model, image_samples, monkeypatch
):
    """What a checkpoint's generation_config sets has no effect, and is left as it was."""
    requests = make_requests(image_samples, GREEDY)
    plain = run(engine(), requests)
    loud = transformers.GenerationConfig(
        do_sample=True, repetition_penalty=3.0, no_repeat_ngram_size=1, min_new_tokens=30, top_k=2
    )
    monkeypatch.setattr(model, "generation_config", loud)
    same_answers(plain, run(engine(), requests))
    assert model.generation_config is loud


def test_a_model_in_training_is_left_in_training(engine, model, image_samples):
    """Evaluation in the middle of training puts the mode back."""
    model.train()
    try:
        run(engine(), make_requests(image_samples[:1], GREEDY))
        assert model.training
    finally:
        model.eval()


def test_bad_images_cost_only_their_own_line(engine, image_samples, tmp_path):
    """Missing, broken, too narrow or wrongly sized: an error line each, neighbours untouched."""
    good = run(engine(), make_requests(image_samples, GREEDY))
    broken = tmp_path / "broken.png"
    broken.write_bytes(image_samples[0].image_path.read_bytes()[:60])
    narrow = tmp_path / "narrow.png"
    Image.new("RGB", (1000, 2)).save(narrow)
    base = image_samples[1]
    bad = [
        dataclasses.replace(base, id="missing", image_path=tmp_path / "gone.png"),
        dataclasses.replace(base, id="broken", image_path=broken),
        dataclasses.replace(base, id="narrow", image_path=narrow, width=1000, height=2),
        dataclasses.replace(base, id="size", width=97),
        dataclasses.replace(base, id="none", image_path=None),
    ]
    mixed = [item for pair in zip(bad, image_samples, strict=True) for item in pair]
    rollouts = run(engine(batch_size=4), make_requests(mixed, GREEDY))
    same_answers(good, {key: rollouts[key] for key in good})
    for sample in bad:
        rollout = rollouts[sample.id, 0]
        assert (rollout.finish_reason, rollout.text, rollout.token_ids) == ("error", "", None)
        assert rollout.gt == base.objects
    assert "96x40" in rollouts["size", 0].error
    assert "gone.png" in rollouts["missing", 0].error


def limited(monkeypatch, largest, error):
    """Let decoding fail for batches larger than `largest`; the sizes that were tried."""
    tried = []
    decode = hf_module.decode_batch

    def fake(model, batch, *rest, **options):
        tried.append(batch.input_ids_BS.shape[0])
        if tried[-1] > largest:
            raise error
        return decode(model, batch, *rest, **options)

    monkeypatch.setattr(hf_module, "decode_batch", fake)
    return tried


def test_out_of_memory_halves_the_batch_and_goes_on(engine, image_samples, monkeypatch):
    """No request is lost, the smaller batch is kept, and the user hears of it."""
    requests = make_requests(image_samples, GREEDY)
    plain = run(engine(), requests)
    tried = limited(monkeypatch, 1, torch.OutOfMemoryError("no memory"))
    heard = []
    same_answers(plain, run(engine(batch_size=4, notify=heard.append), requests))
    assert tried == [4, 2, 1, 1, 1, 1, 1]
    assert len(heard) == 2
    assert "out of memory" in heard[0]


def test_out_of_memory_alone_is_an_error_line(engine, image_samples, monkeypatch):
    """An image that never fits is given up, not tried for ever."""
    tried = limited(monkeypatch, 0, torch.OutOfMemoryError("no memory"))
    rollouts = run(engine(batch_size=2), make_requests(image_samples, GREEDY))
    assert {rollout.finish_reason for rollout in rollouts.values()} == {"error"}
    assert all("out of memory" in rollout.error for rollout in rollouts.values())
    assert tried == [2, 1, 1, 1, 1, 1]


def test_a_batch_that_fails_is_tried_row_by_row(engine, image_samples, monkeypatch):
    """A crash inside the model costs only the rows that crash alone."""
    requests = make_requests(image_samples, GREEDY)
    plain = run(engine(), requests)
    limited(monkeypatch, 1, RuntimeError("shape mismatch"))
    same_answers(plain, run(engine(batch_size=5), requests))
    limited(monkeypatch, 0, RuntimeError("shape mismatch"))
    rollouts = run(engine(batch_size=5), requests)
    assert all("shape mismatch" in rollout.error for rollout in rollouts.values())


def test_logits_that_are_not_numbers_are_an_error_line(engine, model, image_samples):
    """A broken model gives error lines, never a run file that can't be read again."""
    weight = model.lm_head.weight
    stored = weight.data.clone()
    try:
        weight.data[5] = math.nan
        rollouts = run(engine(), make_requests(image_samples[:2], GREEDY))
    finally:
        weight.data.copy_(stored)
    assert all(rollout.finish_reason == "error" for rollout in rollouts.values())
    assert all("not numbers" in rollout.error for rollout in rollouts.values())


def test_pixel_limits_change_how_much_the_model_sees(engine, image_samples, checkpoint_dir):
    """Lifted limits keep the image's size; given ones bound the patches."""
    request = make_requests(image_samples[2:3], GREEDY)
    tokens = {}
    for name, pixels in {
        "own": None,
        "none": PixelLimits(),
        "small": PixelLimits(min_pixels=256, max_pixels=2048),
    }.items():
        fresh = load_reader(resolve_checkpoint(str(checkpoint_dir)))
        rollout = run(engine(reader=fresh, pixels=pixels), request)["im2", 0]
        tokens[name] = rollout.prompt_tokens
    # Cells of 16 pixels: 300 x 200 is rounded to 19 x 12 cells; the checkpoint's own limit of
    # 96 x 96 pixels leaves 7 x 4, and 2048 pixels leave 3 x 2.
    text = tokens["none"] - 19 * 12
    assert tokens["own"] == text + 7 * 4
    assert tokens["small"] == text + 3 * 2


def test_pixel_limits_leave_the_given_processor_alone(engine, reader, image_samples):
    """A processor shared with training keeps its own limits."""
    before = dict(reader.image_processor.size)
    run(engine(pixels=PixelLimits()), make_requests(image_samples[:1], GREEDY))
    assert dict(reader.image_processor.size) == before


def test_exif_orientation_is_applied(engine, image_samples, tmp_path):
    """A photo stored lying with a rotation tag is seen as the upright image is."""
    upright = image_samples[1]
    turned = tmp_path / "turned.png"
    with Image.open(upright.image_path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    samples = [upright, dataclasses.replace(upright, id="turned", image_path=turned)]
    rollouts = run(engine(), make_requests(samples, GREEDY))
    assert rollouts["turned", 0].error is None
    assert rollouts["turned", 0].token_ids == rollouts["im1", 0].token_ids


def test_system_text_and_order_reach_the_model(reader):
    """The rendered prompt holds every part of the prompt in its order, and one image token."""
    asked = Prompt(name="n", version="v", system="be 第九", user="find", image_first=False)
    ids = render_prompt(reader.tokenizer, asked, reader.image_token_id)
    text = reader.tokenizer.decode(ids)
    assert text.index("be 第九") < text.index("find") < text.index("<|image_pad|>")
    assert text.endswith("<|im_start|>assistant\n")


def test_template_arguments_reach_the_template(reader):
    """Arguments of [chat_template] change what is rendered."""
    plain = dataclasses.replace(PROMPT, chat_template_kwargs={})
    numbered = dataclasses.replace(PROMPT, chat_template_kwargs={"add_vision_id": True})
    rendered = [
        reader.tokenizer.decode(render_prompt(reader.tokenizer, prompt, reader.image_token_id))
        for prompt in (plain, numbered)
    ]
    assert "Picture 1" in rendered[1]
    assert "Picture 1" not in rendered[0]


def test_an_image_token_in_the_prompt_text_is_refused(engine):
    """Two image tokens for one image would shift every position."""
    twice = dataclasses.replace(PROMPT, user="what is <|image_pad|>?")
    with pytest.raises(ConfigError, match="2 image tokens"):
        engine(prompt=twice)


def test_bfloat16_runs(checkpoint_dir, image_samples, reader):
    """Weights in bf16 decode too, with log-probabilities in full precision."""
    model = load_model(resolve_checkpoint(str(checkpoint_dir)), device=CPU, dtype=torch.bfloat16)
    engine = HfEngine(reader=reader, load=lambda: model, prompt=PROMPT, decode=GREEDY, dtype="bf16")
    rollouts = run(engine, make_requests(image_samples, GREEDY))
    assert all(rollout.finish_reason in {"stop", "length"} for rollout in rollouts.values())
    assert model.dtype == torch.bfloat16
    assert engine.describe()["identity"] == {"name": "hf", "dtype": "bf16"}


def test_the_vocabulary_comes_from_the_tokenizer(engine, reader):
    """Coordinate ids are those of the tokenizer's own tokens."""
    vocabulary = engine().vocabulary()
    assert vocabulary.token_ids[7] == reader.tokenizer.convert_tokens_to_ids("<|coord_7|>")


def save_adapter(checkpoint_dir, folder, *, scale):
    """A LoRA adapter with random weights on both sides."""
    peft = pytest.importorskip("peft")
    model = load_model(resolve_checkpoint(str(checkpoint_dir)), device=CPU, dtype=torch.float32)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    wrapped.save_pretrained(folder)
    return folder


def test_an_adapter_is_applied(checkpoint_dir, image_samples, reader, engine, tmp_path):
    """With an adapter the model writes what the merged model writes, and not what the base does."""
    peft = pytest.importorskip("peft")
    checkpoint = resolve_checkpoint(str(checkpoint_dir))
    folder = save_adapter(checkpoint_dir, tmp_path / "adapter", scale=0.3)
    requests = make_requests(image_samples[:3], GREEDY)
    adapted = load_model(checkpoint, device=CPU, dtype=torch.float32, adapter=folder)
    base = load_model(checkpoint, device=CPU, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(base, folder).merge_and_unload()
    with_adapter = run(engine(load=lambda: adapted), requests)
    same_answers(run(engine(load=lambda: merged), requests), with_adapter)
    without = run(engine(), requests)
    assert any(without[key].token_ids != with_adapter[key].token_ids for key in without)


def test_weights_are_read_only_when_they_are_needed(engine, image_samples):
    """An engine that is asked for nothing loads nothing."""
    loads = []
    lazy = engine(load=lambda: loads.append(1))
    assert run(lazy, []) == {}
    assert loads == []


def test_a_chat_template_in_its_own_file_is_found(checkpoint_dir, tmp_path):
    """Templates in chat_template.json or chat_template.jinja serve alike."""
    import json

    folder = tmp_path / "copy"
    shutil.copytree(checkpoint_dir, folder)
    jinja = folder / "chat_template.jinja"
    template = jinja.read_text(encoding="utf-8")
    jinja.unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    reader = load_reader(resolve_checkpoint(str(folder)))
    assert reader.tokenizer.chat_template == template
