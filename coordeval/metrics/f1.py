"""Precision, recall and F1 at IoU thresholds, with the counts per image and per class.

Per image and class the largest number of pairs with IoU >= threshold, then the largest IoU sum;
micro over all images. A prediction is right (paired), neither (unpaired, on a crowd region of
its class: intersection / own area >= threshold), or wrong. Ground truth without a partner is
missed. `class-agnostic` ignores the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.iou import Edges, Shapes, shape_edges
from coordeval.metrics.matching import (
    UNMATCHED,
    match_greedy,
    match_optimal,
    prefer_first_copies,
)
from coordeval.metrics.sparse_rows import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, GtColumns, PredColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """Edges of predictions against ordinary ground truth, and the best overlap with crowds.

    Ground-truth rows are those of `GtColumns`. `crowd_same` and `crowd_any` (predictions) are
    the largest intersection / own area with a crowd region of the same or of any class.
    """

    edges: Edges
    same_class: NDArray[np.bool_]
    crowd_same: NDArray[np.float64]
    crowd_any: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The outcome at every threshold (T) for one way of matching.

    `partner` (T, predictions) holds ground-truth rows or -1, `ignored` (T, predictions) marks
    predictions that are neither right nor wrong; rows are made when they are asked for. `tp`,
    `fp`, `fn` (T, images) are counts; `class_*` (T, classes + 1) the same per class, the last
    column being unknown names.
    """

    thresholds: tuple[float, ...]
    partner: SparseRows
    ignored: SparseRows
    tp: NDArray[np.int32]
    fp: NDArray[np.int32]
    fn: NDArray[np.int32]
    class_tp: NDArray[np.int64]
    class_fp: NDArray[np.int64]
    class_fn: NDArray[np.int64]

    def times_matched(self) -> NDArray[np.int64]:
        """At how many thresholds each prediction has a partner."""
        return self.partner.count()


def overlaps(columns: Columns, pred: PredColumns, *, minimum: float, crowd: str) -> Overlaps:
    """All pairs with IoU >= `minimum`, computed once for every threshold and both matchings."""
    gt = columns.gt
    ordinary = np.flatnonzero(~gt.crowd if crowd == "ignore" else np.ones(len(gt), dtype=bool))
    part = _take(gt.shapes, ordinary)
    edges = shape_edges(pred.shapes, part, columns.sizes_wh, minimum=minimum)
    edges = Edges(pred=edges.pred, gt=ordinary[edges.gt], value=edges.value)
    crowd_same = np.zeros(len(pred))
    crowd_any = np.zeros(len(pred))
    crowd_rows = np.flatnonzero(gt.crowd)
    if crowd == "ignore" and len(crowd_rows):
        on_crowd = shape_edges(
            pred.shapes,
            _take(gt.shapes, crowd_rows),
            columns.sizes_wh,
            minimum=minimum,
            over_own_area=True,
        )
        same = pred.class_code[on_crowd.pred] == gt.class_code[crowd_rows[on_crowd.gt]]
        np.maximum.at(crowd_any, on_crowd.pred, on_crowd.value)
        np.maximum.at(crowd_same, on_crowd.pred[same], on_crowd.value[same])
    return Overlaps(
        edges=edges,
        same_class=pred.class_code[edges.pred] == gt.class_code[edges.gt],
        crowd_same=crowd_same,
        crowd_any=crowd_any,
    )


def _take(shapes: Shapes, rows: NDArray[np.int64]) -> Shapes:
    polygons = {}
    if shapes.polygons:
        polygons = {
            new: shapes.polygons[old]
            for new, old in enumerate(rows.tolist())
            if old in shapes.polygons
        }
    return Shapes(image=shapes.image[rows], boxes=shapes.boxes[rows], polygons=polygons)


def match_all(
    columns: Columns,
    pred: PredColumns,
    found: Overlaps,
    thresholds: tuple[float, ...],
    *,
    by_class: bool,
    matching: str = "optimal",
    out_of_scope: NDArray[np.bool_] | None = None,
    crowd: str = "ignore",
) -> Matched:
    """Match at every threshold and count.

    `matching="greedy_any_class"` pairs whatever the class and, where `by_class`, then calls pairs
    with different names wrong. `out_of_scope` predictions take no part and are ignored.
    """
    num_pred, num_gt = len(pred), len(columns.gt)
    partner, ignored = SparseRows(UNMATCHED), SparseRows(fill=False)
    greedy = matching == "greedy_any_class"
    usable = found.same_class.copy() if by_class and not greedy else np.ones_like(found.same_class)
    if out_of_scope is not None:
        usable &= ~out_of_scope[found.edges.pred]
    edges = found.edges.where(usable)
    crowd_overlap = found.crowd_same if by_class else found.crowd_any
    solve = match_greedy if greedy else match_optimal
    for threshold in thresholds:
        result = solve(edges.where(edges.value >= threshold), num_pred, num_gt)
        if greedy and by_class:
            paired = np.flatnonzero(result != UNMATCHED)
            wrong = pred.class_code[paired] != columns.gt.class_code[result[paired]]
            result[paired[wrong]] = UNMATCHED
        elif not greedy:
            result = prefer_first_copies(result, pred.copy_group)
        aside = (result == UNMATCHED) & (crowd_overlap >= threshold)
        if out_of_scope is not None:
            aside |= out_of_scope
        partner.append(result)
        ignored.append(aside)
    counted = ~columns.gt.crowd if crowd == "ignore" else np.ones(num_gt, dtype=bool)
    return _count(columns, pred, thresholds, partner, ignored, counted)


def _count(
    columns: Columns,
    pred: PredColumns,
    thresholds: tuple[float, ...],
    partner: SparseRows,
    ignored: SparseRows,
    counted: NDArray[np.bool_],
) -> Matched:
    gt: GtColumns = columns.gt
    num_images, num_classes = columns.num_images, len(columns.universe.names)
    pred_class = np.where(pred.class_code == UNKNOWN_CLASS, num_classes, pred.class_code)
    per_image, per_class = [], []
    gt_per_image = np.bincount(gt.shapes.image[counted], minlength=num_images)
    gt_per_class = np.bincount(gt.class_code[counted], minlength=num_classes + 1)
    for partners, aside in zip(partner, ignored, strict=True):
        right = partners != UNMATCHED
        wrong = ~right & ~aside
        tp = np.bincount(pred.shapes.image[right], minlength=num_images)
        fp = np.bincount(pred.shapes.image[wrong], minlength=num_images)
        per_image.append(np.array([tp, fp, gt_per_image - tp], dtype=np.int32))
        # A pair counts for the class of the ground truth, which class-agnostic pairs may differ in.
        class_tp = np.bincount(gt.class_code[partners[right]], minlength=num_classes + 1)
        class_fp = np.bincount(pred_class[wrong], minlength=num_classes + 1)
        per_class.append((class_tp, class_fp, gt_per_class - class_tp))
    image_counts = np.array(per_image).reshape(len(thresholds), 3, num_images)
    class_counts = np.array(per_class).reshape(len(thresholds), 3, num_classes + 1)
    return Matched(
        thresholds=thresholds,
        partner=partner,
        ignored=ignored,
        tp=image_counts[:, 0],
        fp=image_counts[:, 1],
        fn=image_counts[:, 2],
        class_tp=class_counts[:, 0],
        class_fp=class_counts[:, 1],
        class_fn=class_counts[:, 2],
    )


def ratio(numerator: float, denominator: float, empty: float | None = None) -> float | None:
    """Numerator / denominator, or `empty` where the denominator is 0."""
    return numerator / denominator if denominator else empty


def f1_value(tp: float, fp: float, fn: float) -> float | None:
    """2 TP / (2 TP + FP + FN); None where all three are 0."""
    return ratio(2 * tp, 2 * tp + fp + fn)


__all__ = [
    "Matched",
    "Overlaps",
    "f1_value",
    "match_all",
    "overlaps",
    "ratio",
]
