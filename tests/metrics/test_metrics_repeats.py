"""Periodic runs against brute force over all starts and periods."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.metrics.repeats import PeriodicRun, periodic_runs, without_overlaps


def brute_force(symbols, copies=4):
    """All maximal runs of at least `copies` copies under their smallest period."""
    num = len(symbols)
    runs = set()
    for period in range(1, num // copies + 1):
        start = 0
        while start + period < num:
            end = start
            while end + period < num and symbols[end] == symbols[end + period]:
                end += 1
            length = end - start + period
            if length >= copies * period and not any(
                period % smaller == 0
                and all(
                    symbols[i] == symbols[i + smaller]
                    for i in range(start, start + length - smaller)
                )
                for smaller in range(1, period)
            ):
                runs.add(PeriodicRun(start, length, period))
            start = end + 1
    return sorted(runs)


pieces = st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(1, 7)).map(
    lambda v: v[0] * v[1]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=4).map(lambda parts: [s for part in parts for s in part]))
def test_runs_equal_brute_force(symbols):
    """Every maximal run with its smallest period, and nothing else."""
    assert periodic_runs(np.array(symbols, dtype=np.int64)) == brute_force(symbols)


def test_long_periods_are_found():
    """A block of 1,000 different records five and a half times over is one run."""
    block = list(range(1000))
    symbols = np.array([-1, -2, *block * 5, *block[:500], -3])
    assert periodic_runs(symbols) == [PeriodicRun(2, 5500, 1000)]
    assert periodic_runs(symbols)[0].copies == 5


def test_a_hundred_thousand_symbols():
    """Large input is fine, repeated or not."""
    assert periodic_runs(np.zeros(100_000, dtype=np.int64)) == [PeriodicRun(0, 100_000, 1)]
    assert periodic_runs(np.arange(100_000)) == []
    assert periodic_runs(np.zeros(0, dtype=np.int64)) == []


def test_longest_runs_win_where_runs_overlap():
    """AAAAB four times over is one run of five, not four runs of one."""
    symbols = np.array([0, 0, 0, 0, 1] * 4)
    assert len(periodic_runs(symbols)) == 5
    assert without_overlaps(periodic_runs(symbols)) == [PeriodicRun(0, 20, 5)]
