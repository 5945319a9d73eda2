"""The twelve COCO numbers of a run under resampling: match tables in, one row per draw out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import to_xywh
from coordeval.metrics.coco_engine import COCO_KEYS
from coordeval.metrics.iou import polygon_rle
from coordeval.stats.coco_draws import average_precision, precision_table
from coordeval.stats.coco_matches import AREA_RANGES, THRESHOLDS, CocoObjects, match_coco

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.iou import Shapes
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.coco_draws import PrecisionTable
    from coordeval.stats.coco_matches import CocoMatches

# Name, area range, detections per image and class.
_RECALLS = (
    ("AR1", 0, 1),
    ("AR10", 0, 10),
    ("AR100", 0, 100),
    ("ARs", 1, 100),
    ("ARm", 2, 100),
    ("ARl", 3, 100),
)
SIZED_KEYS = ("APs", "APm", "APl")


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoStatistics:
    """One run's match table, ready for draws.

    `recalled` holds, per AR number, right detections (images, thresholds x classes); `positives`
    ordinary ground truth (images, areas x classes).
    """

    all_sizes: PrecisionTable
    by_size: PrecisionTable | None
    recalled: dict[str, tuple[int, Any]]
    positives: Any
    num_areas: int
    num_classes: int

    def draw(self, weights_BI: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:  # noqa: N803
        """The twelve numbers (keys of COCO_KEYS) for B draws of I images; NaN where COCO has -1.

        The first row and half of the others (rounded up) serve for APs, APm and APl, which cost
        as much as all other numbers: their arrays are shorter. Without area ranges they are NaN.
        """
        num_draws = len(weights_BI)
        shape = (num_draws, self.num_areas, self.num_classes)
        positives = (weights_BI @ self.positives).reshape(shape)
        half = 1 + num_draws // 2
        out = {key: np.full(num_draws, np.nan) for key in COCO_KEYS}
        out |= {key: np.full(min(half, num_draws), np.nan) for key in SIZED_KEYS}
        for name, (area, table) in self.recalled.items():
            out[name] = _mean_recall(weights_BI @ table, positives[:, area])
        for row, weights in enumerate(weights_BI):
            (by_class,) = average_precision(self.all_sizes, weights, positives[row, :1])
            out["AP"][row] = _mean(by_class)
            out["AP50"][row], out["AP75"][row] = _mean(by_class[0]), _mean(by_class[5])
            if self.by_size is None or row >= half:
                continue
            sized = average_precision(self.by_size, weights, positives[row, 1:])
            for key, values in zip(SIZED_KEYS, sized, strict=True):
                out[key][row] = _mean(values)
        return out


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


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


def coco_statistics(matches: CocoMatches) -> CocoStatistics:
    """Lay a match table out for draws; numbers of area ranges that it lacks are NaN."""
    areas, num_images, num_classes = matches.positives.shape
    flat = matches.positives.transpose(1, 0, 2).reshape(num_images, areas * num_classes)
    recalled = {
        name: (area, _recall_table(matches, area, limit))
        for name, area, limit in _RECALLS
        if area < areas
    }
    return CocoStatistics(
        all_sizes=precision_table(matches.areas(0, 1)),
        by_size=precision_table(matches.areas(1, areas)) if areas > 1 else None,
        recalled=recalled,
        positives=sparse.csr_array(flat.astype(np.int64)),
        num_areas=areas,
        num_classes=num_classes,
    )


def _recall_table(matches: CocoMatches, area: int, limit: int) -> Any:
    """Right detections of at most `limit` per image and class: (images, thresholds x classes)."""
    _, num_images, num_classes = matches.positives.shape
    threshold, det = np.nonzero(matches.right[area] & (matches.rank < limit))
    column = threshold * num_classes + matches.class_code[det]
    ones = np.ones(len(det), dtype=np.int64)
    shape = (num_images, len(THRESHOLDS) * num_classes)
    return sparse.csr_array(sparse.coo_array((ones, (matches.image[det], column)), shape=shape))


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
    xywh = to_xywh(pred.shapes.boxes)
    detections = CocoObjects(
        image=pred.shapes.image,
        class_code=pred.class_code,
        boxes_xywh=xywh,
        area=xywh[:, 2] * xywh[:, 3],
    ).rows(rows)
    truth = CocoObjects(
        image=gt.shapes.image,
        class_code=gt.class_code,
        boxes_xywh=to_xywh(gt.shapes.boxes),
        area=gt.area,
    )
    if masks:
        detections = _with_masks(detections, pred.shapes, rows, columns.sizes_wh, own_area=True)
        every = np.arange(len(gt))
        truth = _with_masks(truth, gt.shapes, every, columns.sizes_wh, own_area=False)
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


def _with_masks(
    objects: CocoObjects,
    shapes: Shapes,
    rows: NDArray[np.int64],
    sizes_wh: NDArray[np.int64],
    *,
    own_area: bool,
) -> CocoObjects:
    """The objects with run-length masks; detections are sized by their masks, as COCO does."""
    from pycocotools import mask as mask_api

    out = []
    for row in rows.tolist():
        points = shapes.polygons.get(row)
        if points is None:
            x1, y1, x2, y2 = shapes.boxes[row].tolist()
            points = [x1, y1, x2, y1, x2, y2, x1, y2]
        width, height = sizes_wh[shapes.image[row]].tolist()
        out.append(polygon_rle(points, width, height))
    area = objects.area
    if own_area:
        # One by one: pycocotools fails on a list of more than 255 masks (numpy 2).
        area = np.array([mask_api.area(mask) for mask in out], dtype=np.float64)
    return CocoObjects(
        image=objects.image,
        class_code=objects.class_code,
        boxes_xywh=objects.boxes_xywh,
        area=area,
        masks=out,
    )


__all__ = ["SIZED_KEYS", "CocoStatistics", "coco_statistics", "run_matches"]
