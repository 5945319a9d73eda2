"""Predictions against ground truth under a protocol: what is in scope, and all the matchings.

The headline and every other sample of a run are judged by the same functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.f1 import match_all, overlaps
from coordeval.metrics.result import Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, OtherSample
    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.protocols import Protocol


def in_scope(columns: Columns, protocol: Protocol) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which predictions are of a class that their image holds, and which stay at all."""
    pred, gt = columns.pred, columns.gt
    step = len(columns.universe.names) + 1
    present = np.unique(gt.shapes.image * step + gt.class_code)
    named = pred.class_code != UNKNOWN_CLASS
    inside = named & np.isin(pred.shapes.image * step + pred.class_code, present)
    kept = np.ones(len(pred), dtype=bool)
    if protocol.scope == "positive_only":
        kept &= inside
    if protocol.drop_exact_repeats:
        kept &= ~pred.is_copy
    return inside, kept


def judge(columns: Columns, protocol: Protocol, inside: NDArray[np.bool_]) -> Scored:
    """Match `columns.pred` in all three ways; `inside` (predictions) as `in_scope` gives it."""
    matching = _Matching(columns, protocol, inside)
    aware = matching.match(by_class=True)
    found = matching.found
    best_iou = np.zeros(len(columns.pred))
    same = found.same_class
    np.maximum.at(best_iou, found.edges.pred[same], found.edges.value[same])
    copies = columns.pred.is_copy
    return Scored(
        aware=aware,
        agnostic=matching.match(by_class=False),
        # Removed copies take no part and are neither right nor wrong.
        deduplicated=matching.match(by_class=True, without=copies) if copies.any() else aware,
        best_iou=best_iou,
    )


def judge_sample(
    columns: Columns, protocol: Protocol, sample: OtherSample
) -> tuple[Matched, Matched]:
    """Match another sample's predictions as the headline's are: class-aware, class-agnostic.

    The counts of images without such a rollout (`sample.done`) mean nothing.
    """
    columns = replace(columns, pred=sample.pred)
    inside, kept = in_scope(columns, protocol)
    if not kept.all():
        columns = replace(columns, pred=columns.pred.subset(kept))
    matching = _Matching(columns, protocol, inside[kept])
    return matching.match(by_class=True), matching.match(by_class=False)


class _Matching:
    """One set of predictions and its overlaps with the ground truth, found once."""

    def __init__(self, columns: Columns, protocol: Protocol, inside: NDArray[np.bool_]) -> None:
        self._columns, self._protocol = columns, protocol
        self._out_of_scope = ~inside if protocol.scope == "annotated" else None
        self.found = overlaps(
            columns,
            columns.pred,
            minimum=min(*protocol.iou_thresholds, 0.5),
            crowd=protocol.crowd,
        )

    def match(self, *, by_class: bool, without: NDArray[np.bool_] | None = None) -> Matched:
        scope = self._out_of_scope
        if without is not None:
            scope = without if scope is None else without | scope
        return match_all(
            self._columns,
            self._columns.pred,
            self.found,
            self._protocol.iou_thresholds,
            by_class=by_class,
            matching=self._protocol.matching,
            out_of_scope=scope,
            crowd=self._protocol.crowd,
        )


__all__ = ["in_scope", "judge", "judge_sample"]
