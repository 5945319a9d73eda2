"""COCO AP and AR of a run: raw, deduplicated, by masks where polygons are, and over tie orders.

Detections enter in the order of the run's images, then in emission order: the engines get the
position in the run as image id, so that numbering images otherwise changes nothing. Names outside
the class universe have no category and cannot enter; `count/unknown_class` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco_engine import (
    COCO_KEYS,
    CocoDetections,
    CocoOutcome,
    CocoTruth,
    EngineName,
    evaluate,
)
from coordeval.metrics.masks import Masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoNumbers:
    """All COCO numbers of one run, as flat metric keys, and AP per class code."""

    metrics: dict[str, float | None]
    per_class: dict[int, tuple[float | None, float | None]]


def coco_numbers(
    columns: Columns,
    scores: NDArray[np.float64],
    best_iou: NDArray[np.float64],
    times_matched: NDArray[np.int64],
    *,
    crowd: str = "ignore",
    engine: EngineName | None = None,
) -> CocoNumbers:
    """Evaluate raw and deduplicated detections and the range of AP over the orders of ties.

    `best_iou` (predictions) is the largest IoU with ordinary ground truth of the same class (0
    below the smallest threshold), `times_matched` at how many thresholds a prediction is paired.
    They decide which of several tied detections are put first and last for `AP_tie_max/min`.
    """
    truth = _truth(columns, crowd)
    keep = columns.pred.class_code != UNKNOWN_CLASS
    raw = evaluate(truth, _detections(columns, scores, keep), engine)
    metrics = {f"coco/{key}": value for key, value in raw.stats.items()}
    metrics |= _tie_range(columns, truth, scores, keep, raw, best_iou, times_matched, engine)
    clean_keep = keep & ~columns.pred.is_copy
    clean = raw
    if not np.array_equal(keep, clean_keep):
        clean = evaluate(truth, _detections(columns, scores, clean_keep), engine)
    metrics |= {f"coco_dedup/{key}": value for key, value in clean.stats.items()}
    if columns.gt.shapes.polygons or columns.pred.shapes.polygons:
        by_mask = evaluate(
            _with_truth_masks(columns, truth),
            _with_detection_masks(columns, _detections(columns, scores, keep), keep),
            engine,
        )
        metrics |= {f"coco_segm/{key}": value for key, value in by_mask.stats.items()}
    codes = {category: code for code, category in enumerate(columns.universe.ids)}
    per_class = {
        codes[category]: (value, raw.ap50_by_category[category])
        for category, value in raw.ap_by_category.items()
    }
    return CocoNumbers(metrics=metrics, per_class=per_class)


def _truth(columns: Columns, crowd: str) -> CocoTruth:
    gt = columns.gt
    ids = np.asarray(columns.universe.ids, dtype=np.int64)
    return CocoTruth(
        image_ids=np.arange(1, columns.num_images + 1),
        sizes_wh=columns.sizes_wh,
        category_ids=ids,
        object_image=gt.shapes.image + 1,
        object_category=ids[gt.class_code],
        boxes_xywh=to_xywh(gt.shapes.boxes),
        area=gt.area,
        crowd=gt.crowd if crowd == "ignore" else np.zeros(len(gt), dtype=bool),
    )


def _detections(
    columns: Columns, scores: NDArray[np.float64], keep: NDArray[np.bool_]
) -> CocoDetections:
    pred = columns.pred
    rows = np.flatnonzero(keep)
    return CocoDetections(
        object_image=pred.shapes.image[rows] + 1,
        object_category=np.asarray(columns.universe.ids, dtype=np.int64)[pred.class_code[rows]]
        if len(rows)
        else np.zeros(0, dtype=np.int64),
        boxes_xywh=to_xywh(pred.shapes.boxes[rows]),
        scores=scores[rows],
    )


def to_xywh(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners (N, 4) to x, y, width, height."""
    return np.hstack([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]])


def _tie_range(
    columns: Columns,
    truth: CocoTruth,
    scores: NDArray[np.float64],
    keep: NDArray[np.bool_],
    raw: CocoOutcome,
    best_iou: NDArray[np.float64],
    times_matched: NDArray[np.int64],
    engine: EngineName | None,
) -> dict[str, float | None]:
    """The smallest and largest AP seen over orders of tied detections, AP itself included.

    Both orders are reachable by breaking ties; they bound the range from inside.
    """
    values = [raw.stats["AP"]]
    if len(np.unique(scores[keep])) < int(keep.sum()) and raw.stats["AP"] is not None:
        worst_first = tie_ranks(scores, [-best_iou])
        best_first = tie_ranks(scores, [best_iou, times_matched.astype(np.float64)])
        values.extend(
            evaluate(truth, _detections(columns, ranks, keep), engine).stats["AP"]
            for ranks in (worst_first, best_first)
        )
    known = [value for value in values if value is not None]
    return {
        "coco/AP_tie_min": min(known) if known else None,
        "coco/AP_tie_max": max(known) if known else None,
    }


def tie_ranks(
    scores: NDArray[np.float64], qualities: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Distinct new scores in the old order; ties go to the higher quality (the last one first)."""
    order = np.lexsort((-np.arange(len(scores)), *qualities, scores))
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(len(scores))
    return ranks


def _with_truth_masks(columns: Columns, truth: CocoTruth) -> CocoTruth:
    gt = columns.gt
    masks = Masks(gt.shapes, columns.sizes_wh, np.arange(len(gt)))
    return CocoTruth(
        image_ids=truth.image_ids,
        sizes_wh=truth.sizes_wh,
        category_ids=truth.category_ids,
        object_image=truth.object_image,
        object_category=truth.object_category,
        boxes_xywh=truth.boxes_xywh,
        area=truth.area,
        crowd=truth.crowd,
        masks=masks,
    )


def _with_detection_masks(
    columns: Columns, detections: CocoDetections, keep: NDArray[np.bool_]
) -> CocoDetections:
    return CocoDetections(
        object_image=detections.object_image,
        object_category=detections.object_category,
        boxes_xywh=detections.boxes_xywh,
        scores=detections.scores,
        masks=Masks(columns.pred.shapes, columns.sizes_wh, np.flatnonzero(keep)),
    )


__all__ = ["COCO_KEYS", "CocoNumbers", "coco_numbers", "tie_ranks", "to_xywh"]
