"""What one quantity did over a training: early collapse, plateau, turning point.

All judgements are against the noise of the curve itself. Noise is estimated from second
differences y[i-1] - 2 y[i] + y[i+1], which a straight line does not have: sigma = 1.4826 *
median|difference| / sqrt(6) (the median absolute deviation of a normal variable, and the variance
6 sigma^2 of such a difference; Gasser, Sroka, Jennen-Steinmetz 1986 use the same idea).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.keys import key_info, report_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.keys import Split
    from coordeval.dynamics.log import Series, TrainingLog

MIN_POINTS = 4
COLLAPSE_SHARE = 0.9
"""An early collapse makes this share of all improvement ..."""
COLLAPSE_SPAN = 0.25
"""... within this share of the steps."""
COLLAPSE_FOLD = 0.2
"""... and is large: at least a fifth of the first value."""
PLATEAU_BAND = 0.05
"""A plateau stays within this share of the curve's whole range, or within the noise."""
MIN_PLATEAU = 3
TURN_SHARE = 0.05
"""A turn loses at least this share of what had been gained ..."""
TURN_FOLD = 0.01
"""... and at least this share of the best value, and 3 sigma of noise."""
SIGMAS = 3.0
MAX_POINTS = 64
"""Longer curves are looked at through medians of this many windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """From `start` on, the curve stays within `low` .. `high`."""

    start: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """What one series did. `verdict`: `too_few`, `flat`, `improves`, `worsens`, `turns`, `unclear`.

    `collapse` is the step by which 90 % of the improvement was made, where that was early and
    large; `turn` the step of the best value where the curve worsens lastingly after it, and
    `turn_to` the level it worsens to (median of its last points, three at most). `windowed` says
    that the series was long and is seen through window medians. Series without a better direction
    have only a plateau.
    """

    log: str
    key: str
    split: Split
    points: int
    first: tuple[int, float]
    best: tuple[int, float] | None
    last: tuple[int, float]
    verdict: str
    noise: float
    collapse: int | None = None
    plateau: Plateau | None = None
    turn: int | None = None
    turn_to: float | None = None
    windowed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data; points as [step, value]."""
        plateau = self.plateau
        return {
            "log": self.log,
            "key": self.key,
            "split": self.split,
            "points": self.points,
            "first": list(self.first),
            "best": None if self.best is None else list(self.best),
            "last": list(self.last),
            "verdict": self.verdict,
            "noise_sigma": self.noise,
            "collapse_by": self.collapse,
            "plateau": None
            if plateau is None
            else {"start": plateau.start, "low": plateau.low, "high": plateau.high},
            "turning_point": self.turn,
            "turns_to": self.turn_to,
            "windowed": self.windowed,
        }


def find_trends(logs: Sequence[TrainingLog]) -> list[Trend]:
    """One trend per known key with a better direction and log: evaluation, else training."""
    out = []
    for key in sorted({key for log in logs for _, key in log.series}, key=report_order):
        if key_info(key).better == "none":
            continue
        for log in logs:
            series = log.best_split(key)
            if series is not None:
                out.append(series_trend(log.name, series))
    return out


def series_trend(log_name: str, series: Series) -> Trend:
    """Judge one series; fewer than four points are `too_few`, and nothing else is said of them."""
    better = key_info(series.key).better
    steps, values = _windows(series.steps, series.values)
    windowed = len(steps) < len(series.steps)
    sign = -1.0 if better == "higher" else 1.0
    costs = [sign * value for value in values]  # from here on, lower is better
    best = min(range(len(costs)), key=costs.__getitem__)
    sigma = 0.0
    collapse = turn = None
    plateau = None
    turn_to = None
    verdict = "too_few"
    if len(costs) >= MIN_POINTS:
        settled = _settled_from(costs, best)
        sigma = _noise(costs[settled:] if len(costs) - settled >= 5 else costs)
        collapse = _collapse(steps, costs, best, sigma)
        plateau = _plateau(steps, values, sigma)
        if better != "none":
            level = _turn_level(costs, best, sigma)
            if level is not None:
                turn, turn_to = steps[best], sign * level
        verdict = _verdict(costs, best, sigma, turned=turn is not None, directed=better != "none")
    return Trend(
        log=log_name,
        key=series.key,
        split=series.split,
        points=len(series.steps),
        first=(steps[0], values[0]),
        best=None if better == "none" else (steps[best], values[best]),
        last=series.last,
        verdict=verdict,
        noise=sigma,
        collapse=None if collapse is None or better == "none" else steps[collapse],
        plateau=plateau,
        turn=turn,
        turn_to=turn_to,
        windowed=windowed,
    )


def _windows(
    steps: Sequence[int], values: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]]:
    """Medians of equally large windows, each at its last step; short series stay as they are."""
    count = len(steps)
    if count <= MAX_POINTS:
        return steps, values
    edges = [count * window // MAX_POINTS for window in range(MAX_POINTS + 1)]
    pairs = list(pairwise(edges))
    return [steps[end - 1] for _, end in pairs], [median(values[a:b]) for a, b in pairs]


def _noise(costs: Sequence[float]) -> float:
    second = [abs(a - 2 * b + c) for a, b, c in zip(costs, costs[1:], costs[2:], strict=False)]
    return 1.4826 * median(second) / 6**0.5 if second else 0.0


def _settled_from(costs: Sequence[float], best: int) -> int:
    """The first point after 90 % of the improvement: before it, slopes would pass for noise."""
    gained = costs[0] - costs[best]
    if gained <= 0:
        return 0
    return next(
        index for index, cost in enumerate(costs) if costs[0] - cost >= COLLAPSE_SHARE * gained
    )


def _collapse(steps: Sequence[int], costs: Sequence[float], best: int, sigma: float) -> int | None:
    gained = costs[0] - costs[best]
    if gained <= SIGMAS * sigma or gained < COLLAPSE_FOLD * abs(costs[0]):
        return None
    place = _settled_from(costs, best)
    # Logs are sampled coarsely: the second point is early, however far apart the points are.
    early = steps[place] - steps[0] <= COLLAPSE_SPAN * (steps[-1] - steps[0]) or place == 1
    return place if early else None


def _plateau(steps: Sequence[int], values: Sequence[float], sigma: float) -> Plateau | None:
    """The longest end of the curve that stays in a narrow band without drifting: 3 points or more.

    A curve whose whole range is 1 % of its level is one plateau.
    """
    low = high = values[-1]
    whole = max(values) - min(values)
    level = max(abs(value) for value in values)
    band = max(PLATEAU_BAND * whole, min(2 * SIGMAS * sigma, 0.25 * whole))
    if whole <= 0.01 * level:
        return Plateau(start=steps[0], low=min(values), high=max(values))
    start = len(values) - 1
    for index in range(len(values) - 1, -1, -1):
        low, high = min(low, values[index]), max(high, values[index])
        if high - low > band:
            break
        start = index
    while len(values) - start >= MIN_PLATEAU and _drift(values[start:]) > max(
        PLATEAU_BAND / 2 * whole, 1.5 * sigma
    ):
        start += 1
    if len(values) - start < MIN_PLATEAU:
        return None
    return Plateau(start=steps[start], low=min(values[start:]), high=max(values[start:]))


def _drift(values: Sequence[float]) -> float:
    """How far the second half's median lies from the first half's."""
    half = len(values) // 2
    return abs(median(values[half:]) - median(values[:half]))


def _turn_level(costs: Sequence[float], best: int, sigma: float) -> float | None:
    """The level that the curve worsens to after its best point; None where it does not lastingly.

    Lastingly: the last points (three at most) lie above the best one by every threshold, and so
    does each of them by half as much.
    """
    after = costs[best + 1 :]
    if len(after) < 2 or best == 0:
        return None
    tail = after[-3:]
    level = median(tail)
    lost = level - costs[best]
    gained = costs[0] - costs[best]
    needed = max(SIGMAS * sigma, TURN_SHARE * gained, TURN_FOLD * abs(costs[best]))
    if lost < needed or min(tail) - costs[best] < lost / 2:
        return None
    return level


def _verdict(
    costs: Sequence[float], best: int, sigma: float, *, turned: bool, directed: bool
) -> str:
    spread = max(costs) - min(costs)
    level = max(abs(cost) for cost in costs)
    if spread == 0 or (spread <= 2 * SIGMAS * sigma and spread <= 0.01 * level):
        return "flat"
    if not directed:
        return "unclear"
    if turned:
        return "turns"
    change = costs[0] - median(costs[-3:])
    threshold = max(SIGMAS * sigma, 0.01 * level)
    if change > threshold:
        return "improves"
    if -change > threshold and (best == 0 or -change > SIGMAS * sigma):
        return "worsens"
    return "unclear" if spread > 0.01 * level else "flat"


__all__ = ["MIN_POINTS", "Plateau", "Trend", "find_trends", "series_trend"]
