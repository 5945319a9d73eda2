"""Constraint and loop guard inside vLLM: the same as with Hugging Face, whatever the model does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rolling import largest_difference, roll

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.parsers import parse

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

CHECKPOINTS = ("ckpt-300", "ckpt-2400", "shapes-final", "ckpt-loops", "ckpt-polygons")
MODES = ("coords", "grammar")
FREE = DecodeSettings(max_new_tokens=320)
BOUND = 1e-4


def constrained(mode, **options):
    return ConstraintSettings(mode=mode, **options)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_constrained_greedy_is_free_greedy_where_that_conforms(benches, scenes_of, name):
    """Where the free output has no issue and no drop, a constraint changes no token."""
    bench, scenes = benches(name), scenes_of(name)
    free = roll(bench.vllm(FREE), scenes, FREE)
    sound = {key for key, one in free.items() if parse(one.text, bench.dialect).conforming}
    assert len(sound) > len(scenes) // 3
    for mode in MODES:
        decode = replace(FREE, constraint=constrained(mode))
        held = roll(bench.vllm(decode), scenes, decode)
        for key in sound:
            assert held[key].token_ids == free[key].token_ids, (mode, key)
            assert held[key].text == free[key].text


@pytest.mark.parametrize("mode", MODES)
def test_constrained_greedy_equals_hugging_face(benches, scenes, mode):
    """Also where the constraint changes the output, both engines write the same."""
    bench = benches("ckpt-2400")
    decode = replace(FREE, constraint=constrained(mode))
    theirs = roll(bench.hf(decode, batch_size=16), scenes, decode)
    assert largest_difference(theirs, roll(bench.vllm(decode), scenes, decode)) < BOUND
    free = roll(bench.vllm(FREE), scenes, FREE)
    assert any(free[key].token_ids != theirs[key].token_ids for key in free)


def check_conforms(rollouts, dialect, mode, *, ordered=True):
    """No drop but a truncated last record; under `coords` none inside a geometry list."""
    for key, rollout in rollouts.items():
        assert rollout.error is None, key
        parsed = parse(rollout.text, dialect)
        reasons = dict(parsed.dropped_by_reason)
        cut = rollout.finish_reason == "length"
        if mode == "grammar":
            assert rollout.finish_reason in {"stop", "length"}
            assert reasons.pop("truncated_record", 0) <= cut
            if not ordered:
                reasons.pop("degenerate_box", None)
            assert not reasons, (key, reasons, rollout.text)
            if not cut:
                assert parsed.conforming, (key, parsed.issues, rollout.text)
        else:
            assert not {"wrong_arity", "coord_out_of_range"} & set(reasons), (key, rollout.text)


HOT = DecodeSettings(max_new_tokens=160, temperature=1.3, samples=2, seed=5)


@pytest.mark.parametrize("mode", MODES)
def test_hot_samples_on_noise_conform(benches, noise, mode):
    """At temperature 1.3 on noise images nothing but the token limit can break an answer."""
    bench = benches("ckpt-2400")
    decode = replace(HOT, constraint=constrained(mode))
    rollouts = roll(bench.vllm(decode), noise, decode)
    check_conforms(rollouts, bench.dialect, mode)
    free = roll(bench.vllm(HOT), noise, HOT)
    assert any(parse(one.text, bench.dialect).drops for one in free.values())


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_random_weights_conform(benches, noise, random_checkpoint, ordered):
    """A model that knows nothing at all still writes only what the grammar allows."""
    bench = benches(random_checkpoint)
    constraint = constrained("grammar", ordered=ordered, max_objects=3, max_points=4)
    decode = replace(HOT, constraint=constraint, max_new_tokens=120)
    rollouts = roll(bench.vllm(decode), noise, decode)
    check_conforms(rollouts, bench.dialect, "grammar", ordered=ordered)


def test_each_request_in_a_batch_has_its_own_control(benches, scenes, noise):
    """Two engines with other settings around one vLLM, one after the other, do not mix."""
    bench = benches("ckpt-2400")
    strict = replace(FREE, constraint=constrained("grammar", max_objects=1))
    first = roll(bench.vllm(strict), scenes[:8], strict)
    roll(bench.vllm(HOT), noise, HOT)
    again = roll(bench.vllm(strict), scenes[:8], strict)
    assert largest_difference(first, again) == 0.0
    counts = [parse(one.text, bench.dialect).objects_found for one in first.values()]
    assert max(counts) == 1


GUARDS = ("mark", "stop")


@pytest.mark.parametrize("mode", GUARDS)
def test_the_guard_sees_what_it_sees_with_hugging_face(benches, scenes, mode):
    """Same verdicts, same kept tokens, same tokens saved; the forced end is not stored."""
    bench = benches("ckpt-2400")
    # Strict thresholds, so that ordinary repeats of this checkpoint count as loops.
    guard = GuardSettings(mode=mode, exact_repeats=2, near_repeats=2, near_iou=0.3)
    decode = replace(FREE, guard=guard)
    theirs = roll(bench.hf(decode, batch_size=16), scenes, decode)
    ours = roll(bench.vllm(decode), scenes, decode)
    assert largest_difference(theirs, ours) < BOUND
    fired = [one for one in ours.values() if one.guard is not None]
    assert fired
    for one in fired:
        if mode == "mark":
            assert one.guard["tokens_saved"] == 0 and one.finish_reason in {"stop", "length"}
        else:
            assert one.finish_reason == "loop_guard"
            assert len(one.token_ids) == one.guard["at"]
            assert one.guard["tokens_saved"] == decode.max_new_tokens - one.guard["at"]
            assert not set(one.token_ids) & bench.reader.end_ids


def test_grammar_and_guard_together(benches, noise):
    """A stopped rollout under a grammar ends where the guard fired, in whole records."""
    bench = benches("ckpt-2400")
    decode = replace(
        HOT,
        constraint=constrained("grammar", class_names=("a",), ordered=False),
        guard=GuardSettings(mode="stop", near_repeats=2, near_iou=0.01),
        max_new_tokens=240,
    )
    rollouts = roll(bench.vllm(decode), noise, decode)
    stopped = [one for one in rollouts.values() if one.finish_reason == "loop_guard"]
    assert stopped
    for one in stopped:
        drops = parse(one.text, bench.dialect).dropped_by_reason
        assert set(drops) <= {"truncated_record", "degenerate_box"}


def test_seeds_make_samples_independent_of_the_batch(benches, scenes):
    """A sampled rollout is the same alone, among others, and in another order."""
    bench = benches("ckpt-300")
    decode = DecodeSettings(max_new_tokens=48, temperature=1.1, top_p=0.95, top_k=50, samples=2)
    whole = roll(bench.vllm(decode), scenes[:8], decode)
    alone = {}
    for sample in reversed(scenes[:4]):
        alone |= roll(bench.vllm(decode), [sample], decode)
    assert {key: whole[key].token_ids for key in alone} == {
        key: one.token_ids for key, one in alone.items()
    }
    assert whole[scenes[0].id, 0].token_ids != whole[scenes[0].id, 1].token_ids


def test_further_samples_have_their_own_temperature(benches, scenes):
    """Sample 0 is greedy where the temperature is 0; the others are sampled."""
    bench = benches("ckpt-300")
    decode = DecodeSettings(max_new_tokens=48, samples=3, sample_temperature=1.5)
    rollouts = roll(bench.vllm(decode), scenes[:4], decode)
    greedy = roll(bench.vllm(FREE), scenes[:4], replace(FREE, max_new_tokens=48))
    for sample in scenes[:4]:
        head = rollouts[sample.id, 0].token_ids
        assert head == greedy[sample.id, 0].token_ids[: len(head)]
    assert any(
        rollouts[sample.id, 1].token_ids != rollouts[sample.id, 0].token_ids
        for sample in scenes[:4]
    )
