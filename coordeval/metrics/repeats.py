"""Blocks repeated back to back in long sequences, all periods at once, in O(n log n) array steps.

A run of period p is found through windows of length L = 2^k with L / 2 < p <= L: inside a run
whose block is not itself a repetition, a window of length >= p occurs again after exactly p
places and not sooner. So the distance to a window's next occurrence is constant along the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.metrics.spans import DisjointSpans

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_COPIES = 4


class PeriodicRun(NamedTuple):
    """`length` symbols from `start` on repeat with `period` (the last copy may be partial)."""

    start: int
    length: int
    period: int

    @property
    def copies(self) -> int:
        """How many whole copies of the block stand there, the first included."""
        return self.length // self.period


def periodic_runs(
    symbols: NDArray[np.int64],
    *,
    longest: int | None = None,
    max_period: int | None = None,
    min_copies: int = MIN_COPIES,
) -> list[PeriodicRun]:
    """All maximal runs of at least `min_copies` (>= 2) whole copies, sorted by start.

    `symbols` (N) are integers; put sequences that must not meet one after the other with
    distinct symbols. `longest` bounds the longest of those sequences (default N), `max_period`
    the periods (default: whatever fits). Runs of different periods may overlap; a run is reported
    under its smallest period.
    """
    num = len(symbols)
    longest = num if longest is None else min(longest, num)
    max_period = min(longest // min_copies, max_period or num)
    runs: list[PeriodicRun] = []
    keys = symbols
    window = 1
    # A level finds the periods in (window / 2, window].
    while len(keys) and window // 2 < max_period:
        rank, distance = _ranks_and_distances(keys)
        if not distance.any():
            break
        runs.extend(_runs_of_level(distance, window, min_copies))
        kept = max(len(rank) - window, 0)
        keys = rank[:kept] * (int(rank.max()) + 1) + rank[window : window + kept]
        window *= 2
    return sorted(run for run in runs if run.period <= max_period)


def _ranks_and_distances(
    keys: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dense ranks of the keys, and from each place the distance to the next equal one (or 0)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    rank = np.zeros(len(keys), dtype=np.int64)
    rank[order[1:]] = np.cumsum(~same)
    distance = np.zeros(len(keys), dtype=np.int64)
    distance[order[:-1][same]] = (order[1:] - order[:-1])[same]
    return rank, distance


def _runs_of_level(distance: NDArray[np.int64], window: int, min_copies: int) -> list[PeriodicRun]:
    fits = (distance > window // 2) & (distance <= window) if window > 1 else distance == 1
    places = np.flatnonzero(fits)
    if not len(places):
        return []
    breaks = (np.diff(places) != 1) | (np.diff(distance[places]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.concatenate([starts, [len(places)]]))
    first = places[starts]
    period = distance[first]
    length = counts - 1 + window + period
    keep = length >= min_copies * period
    return [
        PeriodicRun(int(start), int(size), int(step))
        for start, size, step in zip(first[keep], length[keep], period[keep], strict=True)
    ]


def without_overlaps(runs: list[PeriodicRun]) -> list[PeriodicRun]:
    """The longest runs first, each taken only where it meets none taken before; by start."""
    spans = DisjointSpans()
    longest_first = sorted(runs, key=lambda run: (-run.length, run.start))
    return sorted(run for run in longest_first if spans.take(run.start, run.start + run.length))


__all__ = ["MIN_COPIES", "PeriodicRun", "periodic_runs", "without_overlaps"]
