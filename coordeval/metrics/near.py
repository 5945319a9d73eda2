"""Which boxes nearly repeat an earlier one (IoU >= t), without comparing all with all.

IoU >= t bounds the ratios of widths and of heights by t, and the distances of the corners by
(1 - t) / t of the sides. Small groups are swept along x1. Crowded groups are hashed into cells of
size and place; each box is then compared with earlier boxes of the neighbouring cells, earliest
first, until one is near. Cells that share a hash only cost comparisons.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.iou import expand_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_IOU = 0.90
SMALL_GROUP = 256
_PER_ROUND = 16
_HASH_BITS = 40
_STEP = -float(np.log(NEAR_IOU))


def near_earlier(boxes: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Per box (N, 4; x1, y1, x2, y2 with positive sides) whether an earlier row is near.

    Only rows with the same number in `group` (N) meet. Boxes that are equal count as near.
    """
    near = np.zeros(len(boxes), dtype=bool)
    if not len(boxes):
        return near
    sizes = np.bincount(group)[group]
    _sweep(boxes, group, np.flatnonzero((sizes > 1) & (sizes <= SMALL_GROUP)), near)
    large = np.flatnonzero(sizes > SMALL_GROUP)
    if len(large):
        near[large] = _by_cells(boxes[large], group[large])
    return near


def _sweep(
    boxes: NDArray[np.float64],
    group: NDArray[np.int64],
    rows: NDArray[np.int64],
    near: NDArray[np.bool_],
) -> None:
    """Compare each box with the 1st, 2nd, ... next one by x1 while x1 is within reach."""
    rows = rows[np.lexsort((boxes[rows, 0], group[rows]))]
    x1 = boxes[rows, 0]
    reach = x1 + (1.0 - NEAR_IOU) * (boxes[rows, 2] - x1) + 1e-9
    grouped = group[rows]
    active = np.arange(len(rows))
    step = 1
    while len(active):
        active = active[active + step < len(rows)]
        other = active + step
        ahead = (grouped[other] == grouped[active]) & (x1[other] <= reach[active])
        active, other = active[ahead], other[ahead]
        left, right = rows[active], rows[other]
        close = box_iou(boxes[left], boxes[right]) >= NEAR_IOU
        near[np.maximum(left[close], right[close])] = True
        step += 1


def _by_cells(boxes: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    num = len(boxes)
    size_class = np.floor(np.log(boxes[:, 2:] - boxes[:, :2]) / _STEP).astype(np.int64)
    own = _hash(group, size_class, _grid(boxes, size_class))
    sorted_key = np.sort(own * num + np.arange(num))
    row_of = sorted_key % num
    near = np.zeros(num, dtype=bool)
    for size_shift in product((0, -1, 1), repeat=2):
        target = size_class + np.array(size_shift)
        place = _grid(boxes, target)
        for place_shift in product((0, -1, 1), repeat=2):
            rows = np.flatnonzero(~near)
            cell = _hash(group[rows], target[rows], place[rows] + np.array(place_shift))
            first = np.searchsorted(sorted_key, cell * num)
            # Inside a cell rows rise, so everything before the own row is earlier.
            count = np.searchsorted(sorted_key, cell * num + rows) - first
            _first_hits(boxes, group, rows, first, count, row_of, near)
    return near


def _grid(boxes: NDArray[np.float64], size_class: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place (N, 2) of x1, y1 on the grid of a size class, as wide as the largest reach."""
    pitch = (1.0 - NEAR_IOU) / NEAR_IOU * np.exp((size_class + 2) * _STEP)
    return np.asarray(np.floor(boxes[:, :2] / pitch), dtype=np.int64)


def _hash(
    group: NDArray[np.int64], size_class: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One number below 2 ** _HASH_BITS per cell; wraps around on purpose."""
    mixed = np.zeros(len(group), dtype=np.uint64)
    for part in (group, size_class[:, 0], size_class[:, 1], place[:, 0], place[:, 1]):
        mixed = (mixed ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(64 - _HASH_BITS)).astype(np.int64)


def _first_hits(
    boxes: NDArray[np.float64],
    group: NDArray[np.int64],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    row_of: NDArray[np.int64],
    near: NDArray[np.bool_],
) -> None:
    """Mark rows that are near one of their candidates, looking at a few at a time."""
    while True:
        left_over = count > 0
        rows, first, count = rows[left_over], first[left_over], count[left_over]
        if not len(rows):
            return
        now = np.minimum(count, _PER_ROUND)
        which, candidate = expand_ranges(np.arange(len(rows)), first, now)
        left, right = rows[which], row_of[candidate]
        close = (group[left] == group[right]) & (box_iou(boxes[left], boxes[right]) >= NEAR_IOU)
        hit = np.zeros(len(rows), dtype=bool)
        hit[which[close]] = True
        near[rows[hit]] = True
        rows, first, count = rows[~hit], (first + now)[~hit], (count - now)[~hit]


def box_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU row by row of boxes (N, 4) with positive sides."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    inter = np.prod(np.maximum(high - low, 0.0), axis=1)
    area_first = np.prod(first[:, 2:] - first[:, :2], axis=1)
    area_second = np.prod(second[:, 2:] - second[:, :2], axis=1)
    return np.asarray(inter / (area_first + area_second - inter), dtype=np.float64)


__all__ = ["NEAR_IOU", "box_iou", "near_earlier"]
