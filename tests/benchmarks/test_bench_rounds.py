"""Timing side by side: every case in every round, and ratios that belong together."""

import numpy as np
import pytest
from rounds import Timing, median_ratio, median_s, per_call, ratio_of, side_by_side, timed


def test_every_case_runs_once_per_round_and_warm_up_is_not_kept():
    """Each round holds each case once, in orders that vary; warm-up rounds leave no times."""
    calls = []
    cases = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = side_by_side(cases, 6, warm_up=2)
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("abc", 6)
    rounds = [tuple(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert len(rounds) == 8
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 1


def test_ratios_are_taken_inside_rounds():
    """A machine that gets ten times slower between rounds moves no ratio."""
    times = {
        "ours": [Timing(2.0, 6.0), Timing(20.0, 60.0), Timing(4.0, 12.0)],
        "theirs": [Timing(1.0, 2.0), Timing(10.0, 20.0), Timing(2.0, 4.0)],
    }
    assert ratio_of(times, "ours", "theirs") == (2.0, 2.0, 2.0)
    assert ratio_of(times, "ours", "theirs", wall=True) == (3.0, 3.0, 3.0)
    assert median_s(times, "ours") == 4.0
    assert median_s(times, "ours", wall=True) == 12.0


def test_few_ratios_give_their_range_and_many_an_interval_of_the_median():
    """Below five rounds no interval is claimed; above, it covers the true median 95 times in 100."""
    assert median_ratio([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = median_ratio(rng.lognormal(0.0, 0.3, 25).tolist(), draws=500)
        assert found.low <= found.middle <= found.high
        covered += found.low <= 1.0 <= found.high
    assert 180 <= covered <= 199


def test_a_call_of_a_batch_is_a_share_of_it():
    """However often a short call is repeated, its share is what one call takes."""
    calls = []
    taken = per_call(lambda: calls.append(1), at_least_s=0.001)
    assert len(calls) > 1
    assert 0 < taken.wall < 0.001
    assert timed(lambda: None).wall >= 0


def test_a_ratio_over_nothing_is_an_error():
    """A base that took no time at all is no base."""
    with pytest.raises(ZeroDivisionError):
        ratio_of({"a": [Timing(1, 1)], "b": [Timing(0, 0)]}, "a", "b")
