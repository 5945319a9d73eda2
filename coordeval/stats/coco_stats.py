"""The twelve COCO numbers of a run under resampling: match tables in, one row per draw out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import to_xywh
from coordeval.metrics.masks import Masks
from coordeval.stats.bootstrap import weighted_sums
from coordeval.stats.coco_draws import average_precision, precision_tables
from coordeval.stats.coco_matches import AREA_RANGES, THRESHOLDS, CocoObjects, match_coco

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.coco_matches import CocoMatches

Recall = tuple[str, int, int]
"""Name, area range, detections per image and class."""
COCO_RECALLS: tuple[Recall, ...] = (
    ("AR1", 0, 1),
    ("AR10", 0, 10),
    ("AR100", 0, 100),
    ("ARs", 1, 100),
    ("ARm", 2, 100),
    ("ARl", 3, 100),
)
SIZED_KEYS = ("APs", "APm", "APl")


def draw_coco(
    matches: CocoMatches,
    weights_BI: NDArray[np.integer[Any]],  # noqa: N803
    *,
    recalls: Sequence[Recall] = COCO_RECALLS,
    groups: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """AP, AP50, AP75, APs, APm, APl, AR for B draws of I images; NaN where COCO has -1.

    The first row and half of the others (rounded up) serve for APs, APm and APl, which cost as
    much as all other numbers: their arrays are shorter. Numbers of area ranges that the matches
    lack are NaN. `recalls` name the AR numbers, `groups` further AP over some classes (codes).
    Each number is laid out in its turn, so that one table is held at a time.
    """
    num_draws = len(weights_BI)
    shape = (num_draws, matches.num_areas, matches.num_classes)
    positives = weighted_sums(weights_BI, matches.positives).reshape(shape)
    half = min(1 + num_draws // 2, num_draws)
    out = {name: np.full(num_draws, np.nan) for name, _, _ in recalls}
    out |= {key: np.full(half, np.nan) for key in SIZED_KEYS}
    for name, area, limit in recalls:
        if area < matches.num_areas:
            right = weighted_sums(weights_BI, _recall_table(matches, area, limit))
            out[name] = _mean_recall(right, positives[:, area])
    by_class = _precisions(matches, 0, weights_BI, positives[:, 0])
    out["AP"] = _means(by_class)
    out["AP50"], out["AP75"] = _means(by_class[:, 0]), _means(by_class[:, 5])
    out |= {name: _means(by_class[:, :, codes]) for name, codes in (groups or {}).items()}
    for area, key in enumerate(SIZED_KEYS[: matches.num_areas - 1], start=1):
        out[key] = _means(_precisions(matches, area, weights_BI[:half], positives[:half, area]))
    return out


def _precisions(
    matches: CocoMatches,
    area: int,
    weights_BI: NDArray[np.integer[Any]],  # noqa: N803
    positives_BK: NDArray[np.int64],  # noqa: N803
) -> NDArray[np.float64]:
    """Average precision per draw, threshold and class in one area range."""
    out = np.zeros((len(weights_BI), len(THRESHOLDS), matches.num_classes))
    for table in precision_tables(matches, area):
        for row, weights in enumerate(weights_BI):
            values = average_precision(table, weights.astype(np.int64), positives_BK[row])
            out[row, table.thresholds.start : table.thresholds.stop] = values
    return out


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per draw the mean of what is known; NaN where nothing is."""
    known = [row[~np.isnan(row)] for row in values]
    return np.array([row.mean() if len(row) else np.nan for row in known])


def _mean_recall(
    right: NDArray[np.int64],
    positives_BK: NDArray[np.int64],  # noqa: N803
) -> NDArray[np.float64]:
    """Mean recall over thresholds and classes with ground truth, per draw."""
    num_draws, num_classes = positives_BK.shape
    right = right.reshape(num_draws, len(THRESHOLDS), num_classes)
    some = positives_BK > 0
    recall = right / np.maximum(positives_BK, 1)[:, None, :]
    total = (recall * some[:, None, :]).sum(axis=(1, 2))
    number = some.sum(axis=1) * len(THRESHOLDS)
    out = np.full(num_draws, np.nan)
    np.divide(total, number, out=out, where=number > 0)
    return out


def _recall_table(matches: CocoMatches, area: int, limit: int) -> Any:
    """Right detections of at most `limit` per image and class: (images, thresholds x classes)."""
    images, columns = [], []
    for threshold in range(len(THRESHOLDS)):
        det = matches.right.places(area * len(THRESHOLDS) + threshold)
        det = det[matches.rank[det] < limit]
        images.append(matches.image[det])
        columns.append(threshold * matches.num_classes + matches.class_code[det])
    image, column = np.concatenate(images), np.concatenate(columns)
    shape = (matches.positives.shape[0], len(THRESHOLDS) * matches.num_classes)
    ones = np.ones(len(image), dtype=np.int64)
    return sparse.csr_array(sparse.coo_array((ones, (image, column)), shape=shape))


def run_matches(
    result: ScoreResult,
    *,
    copies: bool = True,
    masks: bool = False,
    scores: NDArray[np.float64] | None = None,
    num_areas: int = len(AREA_RANGES),
) -> CocoMatches:
    """Match a scored run as the COCO engine sees it.

    `copies=False` leaves exact repeats out (`coco_dedup/*`), `masks` compares masks
    (`coco_segm/*`), `scores` (predictions) stand in for the run's own, `num_areas` is how many of
    the area ranges are matched.
    """
    columns, pred, gt = result.columns, result.columns.pred, result.columns.gt
    keep = pred.class_code != UNKNOWN_CLASS
    if not copies:
        keep &= ~pred.is_copy
    rows = np.flatnonzero(keep)
    boxes = to_xywh(pred.shapes.boxes[rows])
    detections = CocoObjects(
        image=pred.shapes.image[rows],
        class_code=pred.class_code[rows],
        boxes_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
    )
    truth = CocoObjects(
        image=gt.shapes.image,
        class_code=gt.class_code,
        boxes_xywh=to_xywh(gt.shapes.boxes),
        area=gt.area,
    )
    if masks:
        drawn = Masks(pred.shapes, columns.sizes_wh, rows)
        # Detections are sized by their masks, as COCO does.
        detections = replace(detections, masks=drawn, area=drawn.areas())
        truth = replace(truth, masks=Masks(gt.shapes, columns.sizes_wh, np.arange(len(gt))))
    crowd = gt.crowd & (result.protocol["crowd"] == "ignore")
    return match_coco(
        detections,
        (result.scores if scores is None else scores)[rows],
        truth,
        crowd,
        num_images=columns.num_images,
        num_classes=len(columns.universe.names),
        num_areas=num_areas,
    )


__all__ = ["COCO_RECALLS", "SIZED_KEYS", "Recall", "draw_coco", "run_matches"]
