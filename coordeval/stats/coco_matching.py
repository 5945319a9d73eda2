"""Matching of some images as COCO does it, at every threshold and area range.

Follows pycocotools' `evaluateImg` step by step (Lin et al., COCO detection evaluation): per image
and class the 100 best detections by falling score (stable), each takes the free ground truth of
the largest IoU >= threshold, ordinary ones before ignored ones; crowd regions may be taken again.
Vectorised over images: the r-th detections of all images and classes are matched together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.iou import expand_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.masks import Masks

THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoObjects:
    """Objects of one side as COCO sees them: `image` and `class_code` (N), `boxes_xywh` (N, 4).

    `area` is what object sizes are judged by, in pixels squared. `masks` where masks are compared,
    else None.
    """

    image: NDArray[np.int64]
    class_code: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    masks: Masks | None = None

    def rows(self, chosen: NDArray[np.int64]) -> CocoObjects:
        """These rows, in this order."""
        return CocoObjects(
            image=self.image[chosen],
            class_code=self.class_code[chosen],
            boxes_xywh=self.boxes_xywh[chosen],
            area=self.area[chosen],
            masks=None if self.masks is None else self.masks.pick(chosen),
        )


def outcomes(
    best: CocoObjects,
    rank: NDArray[np.int64],
    truth: CocoObjects,
    crowd: NDArray[np.bool_],
    ranges: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    num_classes: int,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections are right, and which take part (A, T, N).

    `ranges` are the ignored ground truth (A, objects) and the detections in range (A, N).
    """
    ignored_gt, in_range = ranges
    partner = _match(best, rank, truth, crowd, ignored_gt, num_classes)
    found = partner >= 0
    ignored = np.zeros_like(found)
    if len(crowd):
        ignored = np.take_along_axis(ignored_gt[:, None, :], np.maximum(partner, 0), axis=2)
    right = found & ~ignored
    return right, right | (~found & in_range[:, None, :])


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
    det_masks: Masks,
    gt_masks: Masks,
    crowd: NDArray[np.bool_],
    det: NDArray[np.int64],
    gt: NDArray[np.int64],
) -> NDArray[np.float64]:
    from pycocotools import mask as mask_api

    detection, truth = cache(det_masks.__getitem__), cache(gt_masks.__getitem__)
    out = np.zeros(len(det))
    for row, (d, g) in enumerate(zip(det.tolist(), gt.tolist(), strict=True)):
        out[row] = mask_api.iou([detection(d)], [truth(g)], [int(crowd[g])])[0, 0]
    return out


__all__ = ["THRESHOLDS", "CocoObjects", "outcomes"]
