"""Telemetry is what the model itself thought at every slot, computed here a second time."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from coordeval.coords import CoordVocabulary  # noqa: E402
from coordeval.data.dataset import open_dataset  # noqa: E402
from coordeval.data.images import load_upright_rgb  # noqa: E402
from coordeval.data.prompts import default_prompt  # noqa: E402
from coordeval.decoding.settings import ConstraintSettings  # noqa: E402
from coordeval.decoding.slots import SlotPlace  # noqa: E402
from coordeval.engines.base import DecodeSettings  # noqa: E402
from coordeval.engines.checkpoint import resolve_checkpoint  # noqa: E402
from coordeval.engines.hf import HfEngine  # noqa: E402
from coordeval.engines.hf_inputs import encode_sample, render_prompt  # noqa: E402
from coordeval.engines.hf_loading import load_model, load_reader  # noqa: E402
from coordeval.engines.hf_telemetry import SlotRecorder  # noqa: E402
from coordeval.engines.runner import make_requests  # noqa: E402
from coordeval.parsers import dialect_named  # noqa: E402

FIXTURES = Path(__file__).parents[2] / "fixtures"
PROMPT = default_prompt(dialect=dialect_named("coordjson"))
CPU = torch.device("cpu")
READ = DecodeSettings(max_new_tokens=160, telemetry=True)


def teacher_forced(model, reader, sample, token_ids):
    """Log-probabilities (steps, V) of one unpadded forward pass over prompt and answer, float64."""
    prompt = render_prompt(reader.tokenizer, PROMPT, reader.image_token_id)
    image = load_upright_rgb(sample.image_path)
    encoded = encode_sample(prompt, image, reader.image_processor, reader.image_token_id)
    ids = torch.tensor([[*encoded.prompt_ids, *token_ids]])
    types = torch.zeros_like(ids)
    start = len(encoded.prompt_ids)
    types[:, :start] = ids[:, :start] == reader.image_token_id
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=types.int(),
            pixel_values=encoded.pixel_values.to(torch.float64),
            image_grid_thw=encoded.grid_thw[None],
        ).logits[0]
    assert logits.dtype == torch.float64
    return logits[start - 1 : start - 1 + len(token_ids)].log_softmax(-1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 1.2, "top_k": 40, "repetition_penalty": 1.1},
        {"temperature": 1.2, "constraint": ConstraintSettings(mode="grammar")},
    ],
    ids=["greedy", "sampled", "constrained"],
)
def test_readings_equal_a_float64_forward_pass(changes):
    """Mass, top bin, entropy and rival of every slot, however its token came to be chosen."""
    checkpoint = resolve_checkpoint(str(FIXTURES / "ckpt-2400"))
    reader = load_reader(checkpoint)
    model = load_model(checkpoint, device=CPU, dtype=torch.float32)
    exact = load_model(checkpoint, device=CPU, dtype=torch.float64)
    decode = dataclasses.replace(READ, **changes)
    samples = list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))[:4]
    engine = HfEngine(
        reader=reader, load=lambda: model, prompt=PROMPT, decode=decode, dtype="fp32", batch_size=4
    )
    coords = np.asarray(engine.vocabulary().token_ids)
    rest = np.setdiff1d(np.arange(model.config.get_text_config().vocab_size), coords)
    [rollouts] = engine.generate(make_requests(samples, decode))
    compared = foreign = 0
    for sample, rollout in zip(samples, rollouts, strict=True):
        steps = teacher_forced(exact, reader, sample, rollout.token_ids)
        for slot in rollout.slots:
            probabilities = np.exp(steps[slot.token])
            bins = probabilities[coords]
            mass = math.fsum(bins)
            shares = bins / mass
            entropy = -math.fsum(p * math.log(p) for p in shares if p > 0)
            assert slot.coord_mass == pytest.approx(mass, rel=1e-4, abs=1e-6)
            assert slot.top_prob == pytest.approx(bins.max(), rel=1e-3, abs=1e-6)
            assert bins[slot.top_bin] == pytest.approx(bins.max(), rel=1e-3)
            assert slot.entropy == pytest.approx(entropy, rel=1e-3, abs=1e-4)
            assert slot.other_prob == pytest.approx(probabilities[rest].max(), rel=1e-2, abs=1e-6)
            assert probabilities[slot.other_id] == pytest.approx(
                slot.other_prob, rel=1e-2, abs=1e-6
            )
            assert slot.other_id not in set(coords.tolist())
            assert slot.other_text == reader.tokenizer.decode([slot.other_id])
            assert slot.written_id == rollout.token_ids[slot.token]
            if slot.written_bin is not None:
                assert coords[slot.written_bin] == slot.written_id
            assert slot.mass_bound == 0.0
            compared += 1
            foreign += slot.written_bin is None
    assert compared >= 40
    assert foreign == 0 or "constraint" not in changes


@pytest.mark.slow
def test_control_is_lost_where_the_mass_is_low():
    """On the degraded checkpoint, slots with a foreign token have little coordinate mass."""
    checkpoint = resolve_checkpoint(str(FIXTURES / "ckpt-2400"))
    model = load_model(checkpoint, device=CPU, dtype=torch.float32)
    samples = list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))[:32]
    engine = HfEngine(
        reader=load_reader(checkpoint),
        load=lambda: model,
        prompt=PROMPT,
        decode=READ,
        dtype="fp32",
        batch_size=44,
    )
    [rollouts] = engine.generate(make_requests(samples, READ))
    slots = [slot for rollout in rollouts for slot in rollout.slots]
    lost = [slot for slot in slots if slot.written_bin is None]
    kept = [slot for slot in slots if slot.written_bin is not None]
    assert len(lost) > 10
    assert all(slot.coord_mass < 1 - slot.other_prob + 1e-6 for slot in slots)
    # Greedily, something foreign was written because it was more probable than any bin.
    assert all(slot.other_prob >= slot.top_prob for slot in lost)
    assert all(slot.other_id == slot.written_id for slot in lost)
    assert np.mean([slot.coord_mass for slot in kept]) > np.mean([s.coord_mass for s in lost])
    assert all(rollout.slots is not None for rollout in rollouts)
    json.dumps([list(slot) for slot in slots], allow_nan=False)


def record(logits, ids):
    """Readings of every row at its only step."""
    logits = torch.as_tensor(logits, dtype=torch.float32)
    recorder = SlotRecorder(CoordVocabulary(token_ids=tuple(ids)), CPU)
    recorder.note(logits, logits.logsumexp(-1))
    place = SlotPlace(0, 0, 0, "bbox_2d", 1, None)
    return [row[0] for row in recorder.readings([[place]] * len(logits), str)]


@pytest.mark.parametrize("where", ["front", "middle", "back", "scattered"])
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 30))
def test_numbers_follow_their_definitions_wherever_the_tokens_lie(where, seed, scale):
    """Contiguous ids at any place of the vocabulary and scattered ones give the same numbers."""
    generator = np.random.default_rng(seed)
    width = 1100
    first = {"front": 0, "middle": 40, "back": 100}.get(where)
    ids = generator.permutation(width)[:1000] if first is None else first + np.arange(1000)
    logits = (generator.standard_normal((3, width)) * scale).astype(np.float32)
    weights = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    probabilities = weights / weights.sum(-1, keepdims=True)
    for row, reading in enumerate(record(logits, ids.tolist())):
        bins = probabilities[row][ids]
        rest = np.setdiff1d(np.arange(width), ids)
        shares = bins / bins.sum()
        assert reading.coord_mass == pytest.approx(bins.sum(), rel=1e-4)
        assert reading.top_bin == bins.argmax()
        assert reading.top_prob == pytest.approx(bins.max(), rel=1e-4)
        positive = shares[shares > 0]
        assert reading.entropy == pytest.approx(-(positive * np.log(positive)).sum(), abs=1e-6)
        assert reading.other_id == rest[probabilities[row][rest].argmax()]
        assert reading.other_prob == pytest.approx(probabilities[row][rest].max(), rel=1e-4)


def test_impossible_choices_are_unknown_not_numbers():
    """Where no bin, or nothing but bins, is possible, what cannot be said is None."""
    logits = np.zeros((2, 1010), dtype=np.float32)
    logits[0, 5:1005] = -np.inf
    logits[1, :5] = logits[1, 1005:] = -np.inf
    no_bins, only_bins = record(logits, range(5, 1005))
    assert (no_bins.coord_mass, no_bins.top_bin, no_bins.entropy) == (0.0, None, None)
    assert no_bins.other_prob == pytest.approx(0.1)
    assert (only_bins.other_id, only_bins.other_text, only_bins.other_prob) == (None, None, 0.0)
    assert only_bins.coord_mass == pytest.approx(1.0)
    assert only_bins.entropy == pytest.approx(math.log(1000))


def test_rows_without_slots_have_no_readings():
    """A batch that wrote nothing has nothing to read."""
    recorder = SlotRecorder(CoordVocabulary(token_ids=tuple(range(1000))), CPU)
    assert recorder.readings([[], []], str) == [[], []]
