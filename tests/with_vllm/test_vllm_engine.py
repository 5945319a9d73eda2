"""The vLLM engine around its core: telemetry, new weights, adapters, and everything that fails."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from rolling import largest_difference, roll

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.engines.runner import make_requests
from coordeval.errors import CheckpointError, ConfigError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

GREEDY = DecodeSettings(max_new_tokens=96)
BOUND = 1e-4


@pytest.mark.parametrize("mode", ["none", "grammar"])
def test_telemetry_contains_the_exact_mass(benches, scenes, noise, mode):
    """The mass with Hugging Face lies in vLLM's interval; what vLLM knows agrees, masks or not."""
    bench = benches("ckpt-2400")
    decode = replace(GREEDY, telemetry=True, constraint=ConstraintSettings(mode=mode))
    samples = [*scenes[:24], *noise]
    exact = roll(bench.hf(decode, batch_size=12), samples[:24], decode)
    bounded = roll(bench.vllm(decode), samples[:24], decode)
    exact |= {("n", *key): one for key, one in roll(bench.hf(decode), noise, decode).items()}
    bounded |= {("n", *key): one for key, one in roll(bench.vllm(decode), noise, decode).items()}
    slots = 0
    for key, theirs in exact.items():
        ours = bounded[key]
        assert ours.token_ids == theirs.token_ids
        assert len(ours.slots) == len(theirs.slots)
        for mine, full in zip(ours.slots, theirs.slots, strict=True):
            slots += 1
            assert mine[:6] == full[:6]
            assert mine.coord_mass - 1e-5 <= full.coord_mass
            assert full.coord_mass <= mine.coord_mass + mine.mass_bound + 1e-5
            assert 0.0 <= mine.mass_bound <= 1.0 and mine.entropy is None
            if mine.top_bin is not None:
                assert mine.top_prob == pytest.approx(full.top_prob, abs=1e-5)
                assert mine.top_bin == full.top_bin or full.top_prob - mine.top_prob < 1e-5
            if mine.other_id is not None:
                assert mine.other_prob == pytest.approx(full.other_prob, abs=1e-5)
                assert mine.other_text == bench.reader.tokenizer.decode([mine.other_id])
    assert slots > 200


def test_no_telemetry_unless_asked(benches, scenes):
    """Readings cost time, so they are not there by default."""
    rollouts = roll(benches("ckpt-2400").vllm(GREEDY), scenes[:2], GREEDY)
    assert all(one.slots is None for one in rollouts.values())


def test_refreshed_weights_are_the_ones_that_write(benches, scenes):
    """After new weights vLLM equals Hugging Face with the same ones; nothing stale is served.

    The prompt and the images are the same before and after, so that every cache would be hit.
    """
    old, new = benches("ckpt-300"), benches("ckpt-2400")
    decode = replace(GREEDY, samples=2, sample_temperature=0.5)
    engine = old.new_vllm(decode)
    samples = scenes[:16]
    try:
        before = roll(engine, samples, decode)
        engine.refresh_weights(new.model.state_dict())
        after = roll(engine, samples, GREEDY)
        assert largest_difference(roll(new.hf(GREEDY), samples, GREEDY), after) < BOUND
        assert any(after[key].token_ids != before[key].token_ids for key in after)
        engine.refresh_weights(iter(old.model.state_dict().items()))
        assert largest_difference(before, roll(engine, samples, decode)) == 0.0
    finally:
        engine.close()


def test_weights_cannot_change_under_running_rollouts(benches, scenes):
    """Half of a rollout under old weights, half under new ones, would be nobody's."""
    bench = benches("ckpt-2400")
    engine = bench.vllm(GREEDY)
    stream = engine.generate(make_requests(scenes[:20], GREEDY))
    next(stream)
    with pytest.raises(RuntimeError, match="under way"):
        engine.refresh_weights(bench.model.state_dict())
    stream.close()


def test_bad_images_cost_themselves_only(benches, scenes, tmp_path):
    """Missing, broken and wrongly sized images are error lines; the others are rolled out."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    samples = [
        scenes[0],
        replace(scenes[1], image_path=tmp_path / "absent.png"),
        replace(scenes[2], image_path=broken),
        replace(scenes[3], width=scenes[3].width + 1),
        replace(scenes[4], image_path=None),
        scenes[5],
    ]
    rollouts = roll(benches("ckpt-2400").vllm(GREEDY), samples, GREEDY)
    errors = {key[0]: one.error for key, one in rollouts.items()}
    for index, word in (
        (1, "no such image"),
        (2, "image"),
        (3, "the dataset says"),
        (4, "without"),
    ):
        assert word in errors[samples[index].id]
    assert errors[scenes[0].id] is None and errors[scenes[5].id] is None


def test_all_images_bad_gives_all_error_lines(benches, scenes):
    """Nothing to decode is no reason to hang, or to start a model."""
    samples = [replace(sample, image_path=None) for sample in scenes[:40]]
    engine = benches("ckpt-2400").new_vllm(GREEDY)
    rollouts = roll(engine, samples, GREEDY)
    assert len(rollouts) == 40 and all(one.finish_reason == "error" for one in rollouts.values())
    assert engine.start is not None and engine._llm is None


def test_no_requests_give_no_rollouts(benches):
    """An empty list is answered with nothing."""
    assert list(benches("ckpt-2400").new_vllm(GREEDY).generate([])) == []


class FailingSteps:
    """Makes `step` of an engine's vLLM fail at given calls."""

    def __init__(self, engine, monkeypatch, at):
        inner = engine.start().llm_engine
        self.real, self.calls, self.at = inner.step, 0, at
        monkeypatch.setattr(inner, "step", self)

    def __call__(self):
        self.calls += 1
        if self.calls in self.at:
            raise RuntimeError("the device is gone")
        return self.real()


def test_a_failing_engine_loses_only_what_was_under_way(benches, scenes, monkeypatch):
    """Finished rollouts stay, running ones become error lines, the rest go on in a new vLLM."""
    heard = []
    engine = benches("ckpt-300").new_vllm(
        GREEDY, engine_args={"max_num_seqs": 4}, notify=heard.append
    )
    FailingSteps(engine, monkeypatch, {70})
    try:
        rollouts = roll(engine, scenes[:24], GREEDY)
    finally:
        engine.close()
    assert len(rollouts) == 24
    failed = [one for one in rollouts.values() if one.finish_reason == "error"]
    assert 0 < len(failed) <= 8
    assert all("the device is gone" in one.error for one in failed)
    assert len(heard) == 1


def test_an_engine_that_always_fails_ends_in_error_lines(benches, scenes, monkeypatch):
    """Every request gets its line, and vLLM is not started over and over."""
    engine = benches("ckpt-300").new_vllm(GREEDY, engine_args={"max_num_seqs": 4})
    FailingSteps(engine, monkeypatch, {1})
    rollouts = roll(engine, scenes[:24], GREEDY)
    assert len(rollouts) == 24
    assert {one.finish_reason for one in rollouts.values()} == {"error"}
    assert engine._llm is None


def test_answers_that_do_not_fit_are_error_lines(benches, scenes):
    """Where vLLM's longest sequence cuts an answer short, the run says so instead of passing it."""
    bench = benches("ckpt-2400")
    from coordeval.engines.vllm_loading import VllmSetup

    prompt_tokens = roll(bench.vllm(GREEDY), scenes[:1], GREEDY)[scenes[0].id, 0].prompt_tokens
    long = DecodeSettings(max_new_tokens=400)
    for spare, word in ((40, "--max-model-len"), (-3, "vLLM refuses")):
        setup = VllmSetup(dtype="fp32", on_cpu=True, max_model_len=prompt_tokens + spare)
        engine = bench.new_vllm(long, setup=setup)
        try:
            rollouts = roll(engine, scenes[:8], long)
        finally:
            engine.close()
        for one in rollouts.values():
            if one.finish_reason == "error":
                assert word in one.error
        assert any(one.finish_reason == "error" for one in rollouts.values())


def test_weights_that_are_not_numbers_are_error_lines(benches, scenes, tmp_path):
    """A checkpoint that diverged gives lines that say so, no text that looks like an answer."""
    import shutil

    from safetensors.torch import load_file, save_file

    bench = benches("ckpt-300")
    folder = tmp_path / "diverged"
    shutil.copytree(bench.checkpoint.path, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("language_model.norm.weight"))
    weights[name][:] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    engine = type(bench)(folder).new_vllm(GREEDY)
    try:
        rollouts = roll(engine, scenes[:3], GREEDY)
    finally:
        engine.close()
    assert all("not numbers" in (one.error or "") for one in rollouts.values())


def test_unknown_engine_arguments_are_refused_with_the_nearest(benches, scenes):
    """A typing error in --engine-arg is one clear line."""
    engine = benches("ckpt-300").new_vllm(GREEDY, engine_args={"max_num_seq": 4})
    with pytest.raises(ConfigError, match="max_num_seqs"):
        roll(engine, scenes[:1], GREEDY)


def test_a_checkpoint_that_vllm_cannot_load_is_one_clear_error(benches, scenes, tmp_path):
    """Broken weights name the checkpoint, without a traceback."""
    import shutil

    bench = benches("ckpt-300")
    folder = tmp_path / "torn"
    shutil.copytree(bench.checkpoint.path, folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    engine = type(bench)(folder).new_vllm(GREEDY)
    with pytest.raises(CheckpointError, match="torn: vLLM does not start"):
        roll(engine, scenes[:1], GREEDY)


def test_describe_says_what_decides_a_run(benches):
    """Quantisation is part of a run's identity; how many sequences run at once is not."""
    engine = benches("ckpt-300").new_vllm(
        GREEDY, engine_args={"max_num_seqs": 4, "kv_cache_dtype": "fp8"}
    )
    described = engine.describe()
    assert described["identity"] == {
        "name": "vllm",
        "dtype": "fp32",
        "engine_args": {"kv_cache_dtype": "fp8"},
    }
    assert described["environment"]["max_num_seqs"] == 4
    assert described["versions"]["vllm"]
    json.dumps(described)


def test_speculative_decoding_and_control_exclude_each_other(benches):
    """What cannot be controlled is refused before anything is loaded."""
    decode = replace(GREEDY, guard=GuardSettings(mode="stop"))
    with pytest.raises(ConfigError, match="speculative"):
        benches("ckpt-300").new_vllm(
            decode, engine_args={"speculative_config": {"method": "ngram"}}
        )
