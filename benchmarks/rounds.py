"""Timing side by side: every case once per round, each round in another order, ratios per round.

Ratios of one round share what the machine was doing in it, so their median says more than the
ratio of two best times. CPU seconds are this process's own (all threads): other work on the machine
blurs them less than the wall clock, and both are kept.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from children import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Times = Mapping[str, Sequence["Timing"]]

FEWEST_FOR_INTERVAL = 5
INTERVAL_NOTE = (
    "Ratios: the median of the rounds' ratios with a 95 % bootstrap interval of that median "
    f"(below {FEWEST_FOR_INTERVAL} rounds, the smallest and the largest)."
)


class Ratio(NamedTuple):
    """A median with its interval."""

    middle: float
    low: float
    high: float


def timed(work: Callable[[], object]) -> Timing:
    """One call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Timing(time.process_time() - cpu, time.perf_counter() - wall)


def per_call(work: Callable[[], object], at_least_s: float = 0.02) -> Timing:
    """One call's share of a batch that lasts about `at_least_s`, for calls of microseconds."""
    count = 1
    while True:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if wall > at_least_s:
            return Timing(cpu / count, wall / count)
        count *= 4


def side_by_side(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 0,
    clock: Callable[[Callable[[], object]], Timing] = timed,
    seed: int = 0,
) -> dict[str, list[Timing]]:
    """Times of every case in every round; `warm_up` rounds go before and are not kept."""
    rng = np.random.default_rng(seed)
    times: dict[str, list[Timing]] = {name: [] for name in cases}
    for number in range(warm_up + rounds):
        for name in rng.permutation(list(cases)).tolist():
            gc.collect()
            taken = clock(cases[name])
            if number >= warm_up:
                times[name].append(taken)
    return times


def median_ratio(ratios: Sequence[float], draws: int = 10_000) -> Ratio:
    """The median with its 95 % bootstrap interval; with few ratios, their smallest and largest."""
    middle = statistics.median(ratios)
    if len(ratios) < FEWEST_FOR_INTERVAL:
        return Ratio(middle, min(ratios), max(ratios))
    values = np.asarray(ratios)
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return Ratio(middle, float(low), float(high))


def ratio_of(times: Times, name: str, base: str, *, wall: bool = False) -> Ratio:
    """`name` over `base`, round by round, in CPU seconds or by the wall clock."""
    kind = int(wall)
    return median_ratio(
        [ours[kind] / theirs[kind] for ours, theirs in zip(times[name], times[base], strict=True)]
    )


def median_s(times: Times, name: str, *, wall: bool = False) -> float:
    """Median seconds of a case."""
    return statistics.median(taken[int(wall)] for taken in times[name])


__all__ = [
    "INTERVAL_NOTE",
    "Ratio",
    "Timing",
    "median_ratio",
    "median_s",
    "per_call",
    "ratio_of",
    "side_by_side",
    "timed",
]
