"""Intervals for the summary, from the paired bootstrap over images.

A report shows intervals of the headline metrics, and for several runs the change against the
first one with the verdict that `coordeval compare` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.errors import NotComparable, RunIncomplete
from coordeval.stats.bootstrap import ALPHA, draw_weights
from coordeval.stats.comparison import CompareOptions, compare_runs
from coordeval.stats.replicates import replicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.reports.charts.shown import ShownRun
    from coordeval.stats.changes import Change

DRAWS, SEED = 2000, 0
# AP is dear to resample: the changes get what `coordeval compare` gives, intervals alone half.
CHANGE_AP_DRAWS, AP_DRAWS = 200, 100
NOTE = (
    f"{DRAWS:,} draws; for AP {AP_DRAWS} for an interval and {CHANGE_AP_DRAWS} for a change; "
    f"seed {SEED}."
)
LEAST_SHARE_OF_DRAWS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Per run after the first its changes by metric key; empty where `refusal` says why not."""

    by_run: tuple[Mapping[str, Change], ...]
    refusal: str | None = None


def run_intervals(runs: Sequence[ShownRun]) -> list[dict[str, Interval]]:
    """Per run the interval of each metric that is resampled; empty where nothing was evaluated."""
    return [_intervals(shown.result) for shown in runs]


def run_changes(runs: Sequence[ShownRun]) -> Changes:
    """Compare every run with the first one, on the images that all hold.

    Runs that do not compare give no changes and the sentence that says why.
    """
    if len(runs) < 2:
        return Changes(by_run=())
    first = runs[0].result
    options = CompareOptions(
        draws=DRAWS,
        coco_draws=CHANGE_AP_DRAWS,
        seed=SEED,
        protocol=str(first.protocol["name"]),
        names=None if first.rules is None else first.rules.names,
    )
    try:
        comparison = compare_runs([shown.run for shown in runs], options)
    except (NotComparable, RunIncomplete) as error:
        return Changes(by_run=tuple({} for _ in runs[1:]), refusal=str(error))
    return Changes(by_run=tuple(versus.changes for versus in comparison.versus))


def _intervals(result: ScoreResult) -> dict[str, Interval]:
    if result.status == "empty":
        return {}
    weights = draw_weights(result.columns.num_images, DRAWS, SEED)
    (replicates,) = replicate([result], weights, coco_draws=AP_DRAWS)
    out = {}
    for key, values in replicates.values.items():
        found = _interval(values[1:])
        if found is not None:
            out[key] = found
    return out


def _interval(draws: NDArray[np.float64]) -> Interval | None:
    known = draws[~np.isnan(draws)]
    if len(known) < max(2, LEAST_SHARE_OF_DRAWS * len(draws)):
        return None
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(low=float(low), high=float(high))


__all__ = ["NOTE", "Changes", "Interval", "run_changes", "run_intervals"]
