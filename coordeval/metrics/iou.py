"""IoU between predictions and ground truth of the same image, as flat edge arrays.

An edge is one (prediction, ground truth) pair with its IoU. Everything is vectorised over the
whole dataset. Boxes are x1, y1, x2, y2 in pixels, float64, with continuous coordinates (a box's
width is x2 - x1), as in COCO. A polygon meets a polygon by mask IoU and a box by its hull.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.near_canvas import near_canvas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PAIRS_PER_CHUNK = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Objects of many images, sorted by image: hull boxes, and polygons where they are.

    `image` int64 (N), `boxes` float64 (N, 4); `polygons` maps a row to its flat x, y, ... list.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    polygons: Mapping[int, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Pairs of one prediction row and one ground-truth row, with a value in [0, 1]."""

    pred: NDArray[np.int64]
    gt: NDArray[np.int64]
    value: NDArray[np.float64]

    def where(self, mask: NDArray[np.bool_]) -> Edges:
        """The edges that `mask` keeps."""
        return Edges(pred=self.pred[mask], gt=self.gt[mask], value=self.value[mask])


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of boxes (N, 4); inverted sides count as 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return np.asarray(sides[:, 0] * sides[:, 1], dtype=np.float64)


def same_image_pairs(
    pred_image: NDArray[np.int64], gt_image: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All (prediction, ground truth) pairs of the same image, in chunks; both sorted by image."""
    first = np.searchsorted(gt_image, pred_image, side="left")
    counts = np.searchsorted(gt_image, pred_image, side="right") - first
    ends = np.cumsum(counts)
    start = 0
    while start < len(pred_image):
        done = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, done + PAIRS_PER_CHUNK, side="right"))
        stop = max(stop, start + 1)
        yield expand_ranges(np.arange(start, stop), first[start:stop], counts[start:stop])
        start = stop


def expand_ranges(
    rows: NDArray[np.int64], first: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (row, first[row] + 0 .. first[row] + counts[row] - 1), flat."""
    left = np.repeat(rows, counts)
    offset = np.repeat(np.cumsum(counts) - counts - first, counts)
    return left, np.arange(len(left), dtype=np.int64) - offset


def box_edges(pred: Shapes, gt: Shapes, *, minimum: float, over_own_area: bool = False) -> Edges:
    """Same-image pairs whose boxes have IoU >= `minimum` (> 0 where `minimum` is 0).

    With `over_own_area` the value is intersection / area of the prediction (the crowd rule).
    """
    pred_x1, pred_y1, pred_x2, pred_y2 = np.ascontiguousarray(pred.boxes.T)
    gt_x1, gt_y1, gt_x2, gt_y2 = np.ascontiguousarray(gt.boxes.T)
    pred_area, gt_area = areas(pred.boxes), areas(gt.boxes)
    parts: list[Edges] = []
    for p, g in same_image_pairs(pred.image, gt.image):
        width = np.minimum(pred_x2[p], gt_x2[g]) - np.maximum(pred_x1[p], gt_x1[g])
        touching = np.flatnonzero(width > 0)
        if not len(touching):
            continue
        p, g, width = p[touching], g[touching], width[touching]  # noqa: PLW2901
        height = np.minimum(pred_y2[p], gt_y2[g]) - np.maximum(pred_y1[p], gt_y1[g])
        touching = np.flatnonzero(height > 0)
        p, g = p[touching], g[touching]  # noqa: PLW2901
        inter = width[touching] * height[touching]
        whole = pred_area[p] if over_own_area else pred_area[p] + gt_area[g] - inter
        value = inter / whole
        keep = np.flatnonzero(value >= minimum)
        parts.append(Edges(pred=p[keep], gt=g[keep], value=value[keep]))
    return _concatenate(parts)


def _concatenate(parts: list[Edges]) -> Edges:
    empty = np.zeros(0, dtype=np.int64)
    if not parts:
        return Edges(pred=empty, gt=empty, value=np.zeros(0))
    return Edges(
        pred=np.concatenate([part.pred for part in parts]),
        gt=np.concatenate([part.gt for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )


def shape_edges(
    pred: Shapes,
    gt: Shapes,
    sizes_wh: NDArray[np.int64],
    *,
    minimum: float,
    over_own_area: bool = False,
) -> Edges:
    """Like `box_edges`, with pairs of two polygons judged by their masks.

    `sizes_wh` (images, 2) are the canvases on which polygons are drawn.
    """
    if not (pred.polygons and gt.polygons):
        return box_edges(pred, gt, minimum=minimum, over_own_area=over_own_area)
    # Masks may overlap more than their hulls do, so every touching pair is a candidate.
    candidates = box_edges(pred, gt, minimum=0.0, over_own_area=over_own_area)
    is_pred_poly = np.zeros(len(pred.image), dtype=bool)
    is_pred_poly[list(pred.polygons)] = True
    is_gt_poly = np.zeros(len(gt.image), dtype=bool)
    is_gt_poly[list(gt.polygons)] = True
    both = is_pred_poly[candidates.pred] & is_gt_poly[candidates.gt]
    value = candidates.value.copy()
    value[both] = _mask_values(pred, gt, sizes_wh, candidates.where(both), over_own_area)
    keep = value >= max(minimum, np.finfo(np.float64).tiny)
    return Edges(pred=candidates.pred[keep], gt=candidates.gt[keep], value=value[keep])


def _mask_values(
    pred: Shapes, gt: Shapes, sizes_wh: NDArray[np.int64], edges: Edges, over_own_area: bool
) -> NDArray[np.float64]:
    from pycocotools import mask as mask_api

    pred_rle: dict[int, Any] = {}
    gt_rle: dict[int, Any] = {}
    out = np.zeros(len(edges.pred))
    for row, (p, g) in enumerate(zip(edges.pred.tolist(), edges.gt.tolist(), strict=True)):
        width, height = sizes_wh[pred.image[p]].tolist()
        if p not in pred_rle:
            pred_rle[p] = polygon_rle(pred.polygons[p], width, height)
        if g not in gt_rle:
            gt_rle[g] = polygon_rle(gt.polygons[g], width, height)
        out[row] = mask_api.iou([pred_rle[p]], [gt_rle[g]], [int(over_own_area)])[0, 0]
    return np.nan_to_num(out)


_NOTHING = [0.0] * 6
"""A polygon that covers no pixel."""


def polygon_rle(flat_xy_px: Sequence[float], width: int, height: int) -> Any:
    """The run-length mask of one polygon on a canvas of that size (pycocotools form).

    Vertices may lie anywhere; what is far off the canvas costs nothing.
    """
    from pycocotools import mask as mask_api

    flat = near_canvas(flat_xy_px, width, height)
    return mask_api.frPyObjects([flat or _NOTHING], height, width)[0]


__all__ = [
    "Edges",
    "Shapes",
    "areas",
    "box_edges",
    "expand_ranges",
    "polygon_rle",
    "same_image_pairs",
    "shape_edges",
]
