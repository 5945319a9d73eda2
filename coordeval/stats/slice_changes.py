"""How much each slice of the data changed, with the interval of the paired bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.stats.bootstrap import evidence, weighted_sums, with_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.slices import SliceCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceChange:
    """One slice in two runs: its ground truth, F1 (recall where `measure` says so), counts.

    `low` and `high` are the 95 % interval of the difference, not corrected for many slices; None
    where too few draws had a value. `a_counts`, `b_counts`: right, wrong (None), missed.
    """

    kind: str
    name: str
    measure: str
    objects: int
    a: float | None
    b: float | None
    delta: float | None
    low: float | None
    high: float | None
    a_counts: tuple[int, int | None, int]
    b_counts: tuple[int, int | None, int]
    a_ap: float | None = None
    b_ap: float | None = None


def slice_changes(
    a: Sequence[SliceCounts], b: Sequence[SliceCounts], weights: NDArray[np.integer[Any]]
) -> list[SliceChange]:
    """Changes of all slices that hold anything, in the order of the slices.

    Slices of `a` and `b` are joined by kind and name; `weights` (draws, images).
    """
    out = []
    drawn = with_whole(weights)
    for one, two in zip(a, b, strict=True):
        values_a, values_b = (_drawn_values(part, drawn) for part in (one, two))
        for column, name in enumerate(one.names):
            if name not in two.names:
                continue
            other = two.names.index(name)
            counts_a, counts_b = _totals(one, column), _totals(two, other)
            if not any(counts_a) and not any(counts_b):
                continue
            out.append(
                _change(one, name, (counts_a, counts_b), values_a[:, column], values_b[:, other])
            )
    return out


def _change(
    part: SliceCounts,
    name: str,
    counts: tuple[tuple[int, int | None, int], tuple[int, int | None, int]],
    values_a: NDArray[np.float64],
    values_b: NDArray[np.float64],
) -> SliceChange:
    a, b = (None if np.isnan(values[0]) else float(values[0]) for values in (values_a, values_b))
    delta = None if a is None or b is None else b - a
    low = high = None
    if delta is not None:
        found = evidence(delta, values_b[1:] - values_a[1:])
        low, high = found.low, found.high
    return SliceChange(
        kind=part.kind,
        name=name,
        measure="recall" if part.wrong is None else "f1",
        objects=counts[0][0] + counts[0][2],
        a=a,
        b=b,
        delta=delta,
        low=low,
        high=high,
        a_counts=counts[0],
        b_counts=counts[1],
    )


def _totals(part: SliceCounts, column: int) -> tuple[int, int | None, int]:
    wrong = None if part.wrong is None else int(part.wrong.sum(axis=0)[column])
    return int(part.right.sum(axis=0)[column]), wrong, int(part.missed.sum(axis=0)[column])


def _drawn_values(part: SliceCounts, weights: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """F1 (or recall) per draw and slice."""
    right, missed = weighted_sums(weights, part.right), weighted_sums(weights, part.missed)
    below = (right + missed).astype(np.float64)
    if part.wrong is not None:
        below = right + (missed + weighted_sums(weights, part.wrong)) / 2
    out = np.full(right.shape, np.nan)
    np.divide(right, below, out=out, where=below > 0)
    return out


def with_class_ap(
    changes: Sequence[SliceChange], a: ScoreResult, b: ScoreResult
) -> list[SliceChange]:
    """The changes with AP per class, as the COCO engine gives it, on class slices."""
    ap_a, ap_b = (
        {
            result.columns.universe.labels[code]: value
            for code, (value, _) in result.per_class_ap.items()
        }
        for result in (a, b)
    )
    return [
        replace(part, a_ap=ap_a.get(part.name), b_ap=ap_b.get(part.name))
        if part.kind == "class"
        else part
        for part in changes
    ]


__all__ = ["SliceChange", "slice_changes", "with_class_ap"]
