"""One metric in two runs: the difference, what the draws say about it, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from coordeval.metrics.catalogue import describe
from coordeval.stats.bootstrap import ALPHA, benjamini_hochberg, evidence, smallest_p

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.catalogue import Better
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.replicates import Replicates

IMAGES_AT_ONCE = 1024
Verdict = Literal["better", "worse", "differs", "~"]

# Coordinate masses from an engine's most probable tokens are lower bounds; this is how far off.
_MASS, _MASS_BOUND = "slot/mass_", "slot/mass_bound_max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A metric in A and B (None: no value there), in the metric's own unit.

    `delta` is B - A. `low`, `high`, `p`, `p_adjusted`, `detectable`, `draws` as in `Evidence`, None
    where the metric has no value in one run or is not resampled. `images_differ` counts images on
    which the runs differ in what the metric is made of. `verdict` follows the catalogue's
    direction: `differs` where it has none, `~` where there is no evidence, None without a test.
    """

    key: str
    better: Better
    unit: str
    a: float | int | None
    b: float | int | None
    delta: float | int | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    draws: int = 0
    images_differ: int | None = None
    headline: bool = False
    verdict: Verdict | None = None


def metric_changes(
    a: ScoreResult,
    b: ScoreResult,
    replicates: tuple[Replicates, Replicates],
    headline: Sequence[str],
) -> dict[str, Change]:
    """Every metric that one of the runs has, judged; the headline metrics are a family of tests.

    A detail of a drop reason that only one run lists is counted in the other, mostly 0. Masses
    that are exact in one run and lower bounds in the other are shown, and not judged.
    """
    differing = prediction_differences(a, b)
    unlike_masses = bool(a.metrics.get(_MASS_BOUND)) != bool(b.metrics.get(_MASS_BOUND))
    changes = {}
    for key in dict.fromkeys((*a.metrics, *b.metrics)):
        value_a, value_b = (
            _value(result, part, key) for result, part in zip((a, b), replicates, strict=True)
        )
        info = describe(key)
        change = Change(
            key=key,
            better="none" if info is None else info.better,
            unit="ratio" if info is None else info.unit,
            a=value_a,
            b=value_b,
            delta=None if value_a is None or value_b is None else value_b - value_a,
            headline=key in headline,
        )
        judged_here = not (unlike_masses and key.startswith(_MASS))
        changes[key] = _with_evidence(change, replicates, differing) if judged_here else change
    judged = _judge([change for change in changes.values() if change.headline])
    judged += _judge([change for change in changes.values() if not change.headline])
    by_key = {change.key: change for change in judged}
    return {key: by_key[key] for key in changes}


def _value(result: ScoreResult, part: Replicates, key: str) -> float | int | None:
    if key not in result.metrics and key in part.values:
        return int(part.values[key][0])  # a detail that this run does not list
    return result.metrics.get(key)


def _with_evidence(
    change: Change, replicates: tuple[Replicates, Replicates], differing: NDArray[np.bool_]
) -> Change:
    one, two = (part.values.get(change.key) for part in replicates)
    if change.delta is None or one is None or two is None:
        return change
    columns = replicates[0].columns[change.key]
    number = _images_differ(replicates, columns, differing)
    length = min(len(one), len(two))
    found = evidence(float(change.delta), two[1:length] - one[1:length], images_differ=number)
    return replace(
        change,
        low=found.low,
        high=found.high,
        p=found.p,
        detectable=found.detectable,
        draws=found.draws,
        images_differ=number,
    )


def _images_differ(
    replicates: tuple[Replicates, Replicates],
    columns: tuple[str, ...] | None,
    differing: NDArray[np.bool_],
) -> int:
    if columns is None:
        return int(differing.sum())
    one, two = replicates[0].table, replicates[1].table
    different = np.zeros(one.num_images, dtype=bool)
    for name in columns:
        left = one[name] if name in one else np.zeros(one.num_images)
        right = two[name] if name in two else np.zeros(one.num_images)
        different |= left != right
    return int(different.sum())


def prediction_differences(a: ScoreResult, b: ScoreResult) -> NDArray[np.bool_]:
    """Images whose scored predictions differ in class, box, score or order."""
    both = zip(_signatures(a), _signatures(b), strict=True)
    return np.array([left != right for left, right in both], dtype=bool)


def _signatures(result: ScoreResult) -> Iterator[bytes]:
    """Per image what its scored predictions are, some images at a time."""
    columns, pred = result.columns, result.columns.pred
    bounds = np.searchsorted(pred.shapes.image, np.arange(columns.num_images + 1))
    outlines = pred.shapes.polygons
    for first in range(0, columns.num_images, IMAGES_AT_ONCE):
        places = bounds[first : first + IMAGES_AT_ONCE + 1].tolist()
        rows = slice(places[0], places[-1])
        table = np.column_stack(
            [pred.shapes.boxes[rows], pred.class_code[rows], result.scores[rows]]
        )
        for low, high in pairwise(places):
            outline = b""
            if outlines:
                outline = repr([outlines.get(row) for row in range(low, high)]).encode()
            yield table[low - places[0] : high - places[0]].tobytes() + outline


def _judge(changes: list[Change]) -> list[Change]:
    """Adjust the p-values of one family and give the verdicts.

    Metrics that could not be told apart whatever the draws say (equal in every draw, or too few
    differing images) are no tests (Tarone 1990), and so do not weigh on the others.
    """
    tested = [
        number
        for number, change in enumerate(changes)
        if change.p is not None
        and smallest_p(change.images_differ or 0) <= ALPHA
        and any((change.low, change.high, change.delta))
    ]
    adjusted = benjamini_hochberg([changes[number].p or 0.0 for number in tested])
    p_of = dict(zip(tested, adjusted, strict=True))
    return [
        change
        if change.p is None
        else replace(
            change,
            p_adjusted=p_of.get(number, 1.0),
            verdict=_verdict(change, p_of.get(number, 1.0)),
        )
        for number, change in enumerate(changes)
    ]


def _verdict(change: Change, p_adjusted: float) -> Verdict:
    if p_adjusted > ALPHA or not change.delta:
        return "~"
    if change.better == "none":
        return "differs"
    return "better" if (change.delta > 0) == (change.better == "higher") else "worse"


def tally(changes: Mapping[str, Change], keys: Sequence[str]) -> dict[str, int]:
    """How many of the metrics got each verdict; untested ones under `untested`."""
    out = {"better": 0, "worse": 0, "differs": 0, "~": 0, "untested": 0}
    for key in keys:
        out[changes[key].verdict or "untested"] += 1
    return out


__all__ = ["Change", "Verdict", "metric_changes", "prediction_differences", "tally"]
