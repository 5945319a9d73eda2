"""Rollouts by key, and what it means that two engines wrote the same."""

from __future__ import annotations

from coordeval.engines.runner import make_requests


def roll(engine, samples, decode):
    """All rollouts of an engine by (id, sample index); each must come once."""
    rollouts = {}
    for batch in engine.generate(make_requests(samples, decode)):
        for rollout in batch:
            key = rollout.id, rollout.sample_index
            assert key not in rollouts
            rollouts[key] = rollout
    return rollouts


def largest_difference(ones, others):
    """The largest |difference| of log-probabilities; all else must be equal."""
    assert ones.keys() == others.keys()
    largest = 0.0
    for key, one in ones.items():
        other = others[key]
        assert one.error is None and other.error is None, (key, one.error, other.error)
        assert one.token_ids == other.token_ids, key
        assert one.text == other.text, key
        assert one.finish_reason == other.finish_reason, key
        assert one.prompt_tokens == other.prompt_tokens, key
        assert one.guard == other.guard, key
        assert len(one.token_logprobs) == len(other.token_logprobs) == len(one.token_ids)
        pairs = zip(one.token_logprobs, other.token_logprobs, strict=True)
        largest = max([largest, *(abs(a - b) for a, b in pairs)])
    return largest
