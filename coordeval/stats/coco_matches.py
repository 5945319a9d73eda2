"""COCO match tables: which detection finds which ground truth, once, so that draws need not match.

Follows pycocotools' `evaluateImg` step by step (Lin et al., COCO detection evaluation): per image
and class the 100 best detections by falling score (stable), each takes the free ground truth of
the largest IoU >= threshold, ordinary ones before ignored ones; crowd regions may be taken again.
Vectorised over images: the r-th detections of all images and classes are matched together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.iou import expand_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "s": (0.0, 32.0**2),
    "m": (32.0**2, 96.0**2),
    "l": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoObjects:
    """Objects of one side as COCO sees them: `image` and `class_code` (N), `boxes_xywh` (N, 4).

    `area` is what object sizes are judged by, in pixels squared. `masks` are run-lengths where
    masks are compared, else None.
    """

    image: NDArray[np.int64]
    class_code: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    masks: Sequence[Any] | None = None

    def rows(self, chosen: NDArray[np.int64]) -> CocoObjects:
        """These rows, in this order."""
        masks = None if self.masks is None else [self.masks[row] for row in chosen.tolist()]
        return CocoObjects(
            image=self.image[chosen],
            class_code=self.class_code[chosen],
            boxes_xywh=self.boxes_xywh[chosen],
            area=self.area[chosen],
            masks=masks,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoMatches:
    """Detections in the order in which COCO accumulates them, with their outcomes.

    D detections sorted by class, falling score, image, rank in the image; A area ranges
    (`AREA_RANGES`), T thresholds. `right` and `counted` (A, T, D): found an ordinary ground
    truth; takes part at all. `rank` (D) is the place among the image's detections of the class.
    `in_range` (A, D): the detection's own area is in the range. `positives` (A, images, classes)
    counts ordinary ground truth.
    """

    image: NDArray[np.int64]
    class_code: NDArray[np.int64]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    in_range: NDArray[np.bool_]
    positives: NDArray[np.int32]

    def areas(self, first: int, stop: int) -> CocoMatches:
        """The same detections with the area ranges `first` to `stop` (excluded) alone."""
        return replace(
            self,
            right=self.right[first:stop],
            counted=self.counted[first:stop],
            in_range=self.in_range[first:stop],
            positives=self.positives[first:stop],
        )


def match_coco(
    detections: CocoObjects,
    scores: NDArray[np.float64],
    truth: CocoObjects,
    crowd: NDArray[np.bool_],
    *,
    num_images: int,
    num_classes: int,
    num_areas: int = len(AREA_RANGES),
) -> CocoMatches:
    """Match at every threshold and the first `num_areas` area ranges; both sides may be empty.

    Detections enter in the order of the rows wherever scores tie.
    """
    order = np.lexsort((-scores, detections.class_code, detections.image))
    order, rank = _best_hundred(detections, order)
    best = detections.rows(order)
    crowd_rows = np.asarray(crowd, dtype=bool)
    ranges = list(AREA_RANGES.values())[:num_areas]
    ignored_gt = np.stack([crowd_rows | _outside(truth.area, limits) for limits in ranges])
    in_range = np.stack([~_outside(best.area, limits) for limits in ranges])
    partner = _match(best, rank, truth, crowd_rows, ignored_gt, num_classes)
    found = partner >= 0
    if len(crowd_rows):
        ignored = np.take_along_axis(ignored_gt[:, None, :], np.maximum(partner, 0), axis=2)
    else:
        ignored = np.zeros_like(found)
    right = found & ~ignored
    counted = right | (~found & in_range[:, None, :])
    positives = np.zeros((num_areas, num_images, num_classes), dtype=np.int32)
    for row, is_ignored in enumerate(ignored_gt):
        kept = ~is_ignored
        np.add.at(positives[row], (truth.image[kept], truth.class_code[kept]), 1)
    final = np.lexsort((rank, best.image, -scores[order], best.class_code))
    return CocoMatches(
        image=best.image[final],
        class_code=best.class_code[final],
        score=scores[order][final],
        rank=rank[final],
        right=right[:, :, final],
        counted=counted[:, :, final],
        in_range=in_range[:, final],
        positives=positives,
    )


def _outside(area: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((area < limits[0]) | (area > limits[1]), dtype=bool)


def _best_hundred(
    detections: CocoObjects, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of at most 100 detections per image and class, and their places in it."""
    image, code = detections.image[order], detections.class_code[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (image[1:] != image[:-1]) | (code[1:] != code[:-1])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    rank = np.arange(len(order)) - first
    kept = rank < MAX_DETECTIONS
    return order[kept], rank[kept]


def _match(
    best: CocoObjects,
    rank: NDArray[np.int64],
    truth: CocoObjects,
    crowd: NDArray[np.bool_],
    ignored_gt: NDArray[np.bool_],
    num_classes: int,
) -> NDArray[np.int64]:
    """Ground-truth rows (A, T, D) or -1."""
    num_areas, num_thresholds = len(ignored_gt), len(THRESHOLDS)
    partner = np.full((num_areas, num_thresholds, len(rank)), -1, dtype=np.int64)
    det, gt, iou = _pairs(best, truth, crowd, num_classes)
    if not len(det):
        return partner
    # Within a detection the later of equal IoUs wins, as pycocotools' `<` has it.
    order = np.lexsort((gt, iou, det, rank[det]))
    det, gt, iou = det[order], gt[order], iou[order]
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)
    free = np.ones((num_areas, num_thresholds, len(crowd)), dtype=bool)
    bounds = np.searchsorted(rank[det], np.arange(int(rank[det].max()) + 2))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if low == high:
            continue
        d, g = det[low:high], gt[low:high]
        usable = (iou[low:high] >= limits[:, None]) & (free[:, :, g] | crowd[g])
        # One number per pair: unusable 0, ignored ground truth below all ordinary ones.
        place = np.arange(1, len(d) + 1, dtype=np.int64)
        key = np.where(ignored_gt[:, g], place, place + len(d))[:, None, :] * usable
        first = np.flatnonzero(np.concatenate([[True], d[1:] != d[:-1]]))
        top = np.maximum.reduceat(key, first, axis=2)
        area, threshold, group = np.nonzero(top)
        chosen = g[(top[area, threshold, group] - 1) % len(d)]
        partner[area, threshold, d[first[group]]] = chosen
        free[area, threshold, chosen] = False
    return partner


def _pairs(
    best: CocoObjects, truth: CocoObjects, crowd: NDArray[np.bool_], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of one image and class with IoU >= .5: detection, ground truth, IoU."""
    truth_key = truth.image * num_classes + truth.class_code
    by_key = np.argsort(truth_key, kind="stable")
    keys = truth_key[by_key]
    wanted = best.image * num_classes + best.class_code
    first = np.searchsorted(keys, wanted, side="left")
    counts = np.searchsorted(keys, wanted, side="right") - first
    det, place = expand_ranges(np.arange(len(wanted)), first, counts)
    gt = by_key[place]
    if best.masks is not None and truth.masks is not None:
        iou = _mask_iou(best.masks, truth.masks, crowd, det, gt)
    else:
        iou = _box_iou(best.boxes_xywh[det], truth.boxes_xywh[gt], crowd[gt])
    kept = iou >= THRESHOLDS[0]
    return det[kept], gt[kept], iou[kept]


def _box_iou(
    det: NDArray[np.float64], gt: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU of rows (N, 4) of x, y, w, h with the operations of COCO's `bbIou`, in its order."""
    width = np.minimum(det[:, 2] + det[:, 0], gt[:, 2] + gt[:, 0])
    width -= np.maximum(det[:, 0], gt[:, 0])
    height = np.minimum(det[:, 3] + det[:, 1], gt[:, 3] + gt[:, 1])
    height -= np.maximum(det[:, 1], gt[:, 1])
    inter = width * height
    own = det[:, 2] * det[:, 3]
    whole = np.where(crowd, own, own + gt[:, 2] * gt[:, 3] - inter)
    touching = (width > 0) & (height > 0)
    out = np.zeros(len(det))
    np.divide(inter, whole, out=out, where=touching)
    return out


def _mask_iou(
    det_masks: Sequence[Any],
    gt_masks: Sequence[Any],
    crowd: NDArray[np.bool_],
    det: NDArray[np.int64],
    gt: NDArray[np.int64],
) -> NDArray[np.float64]:
    from pycocotools import mask as mask_api

    out = np.zeros(len(det))
    for row, (d, g) in enumerate(zip(det.tolist(), gt.tolist(), strict=True)):
        out[row] = mask_api.iou([det_masks[d]], [gt_masks[g]], [int(crowd[g])])[0, 0]
    return out


__all__ = [
    "AREA_RANGES",
    "MAX_DETECTIONS",
    "THRESHOLDS",
    "CocoMatches",
    "CocoObjects",
    "match_coco",
]
