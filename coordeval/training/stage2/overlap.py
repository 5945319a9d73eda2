"""How much written and true objects overlap, in the coordinates of the frame.

Boxes meet by their areas. Where a polygon or a line takes part both shapes are drawn on a canvas,
lines as bands, and their masks meet. Shapes: P first objects, G second ones.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coordeval.coords import MAX_BIN
from coordeval.metrics.iou import areas, polygon_rle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.records import GeometryKind

LINE_WIDTH = 20.0
"""Width in bins of the band that a line is drawn as: 2 % of the frame."""
_FEW_CELLS = 64.0


class BinObject(NamedTuple):
    """An object in bins of the frame, written or true."""

    desc: str
    kind: GeometryKind
    bins: tuple[int, ...]


def iou_matrix(
    first: Sequence[BinObject], second: Sequence[BinObject], *, mask_size: int
) -> NDArray[np.float64]:
    """IoU of each first with each second object (P, G); equal shapes have 1, also without area.

    `mask_size` is the side of the canvas in cells. What covers few cells of it is drawn again on
    one that shows only the pair. No objects on either side give an empty matrix.
    """
    out = _matrix(first, second, mask_size, over_first=False)
    columns: dict[tuple[object, ...], list[int]] = {}
    for column, other in enumerate(second):
        columns.setdefault(other[1:], []).append(column)
    for row, one in enumerate(first):
        if (same := columns.get(one[1:])) is not None:
            out[row, same] = 1.0
    return out


def covered_matrix(
    first: Sequence[BinObject], second: Sequence[BinObject], *, mask_size: int
) -> NDArray[np.float64]:
    """Share of each first object that lies on each second one (P, G): the rule for crowds."""
    return _matrix(first, second, mask_size, over_first=True)


def _matrix(
    first: Sequence[BinObject], second: Sequence[BinObject], mask_size: int, *, over_first: bool
) -> NDArray[np.float64]:
    hulls_P4, hulls_G4 = _hulls(first), _hulls(second)
    low = np.maximum(hulls_P4[:, None, :2], hulls_G4[None, :, :2])
    high = np.minimum(hulls_P4[:, None, 2:], hulls_G4[None, :, 2:])
    inter_PG = np.prod(np.maximum(high - low, 0.0), axis=2)
    whole_PG = np.broadcast_to(areas(hulls_P4)[:, None], inter_PG.shape)
    if not over_first:
        whole_PG = whole_PG + areas(hulls_G4)[None, :] - inter_PG
    out: NDArray[np.float64] = np.zeros(inter_PG.shape)
    np.divide(inter_PG, whole_PG, out=out, where=inter_PG > 0)
    canvas = _Canvas(mask_size)
    for row, column in np.argwhere(inter_PG > 0).tolist():
        one, other = first[row], second[column]
        if one.kind != "bbox_2d" or other.kind != "bbox_2d":
            out[row, column] = canvas.overlap(one, other, over_first=over_first)
    return out


def _hulls(objects: Sequence[BinObject]) -> NDArray[np.float64]:
    """Boxes around the objects (N, 4); those of lines hold the whole band."""
    hulls = np.zeros((len(objects), 4))
    for row, obj in enumerate(objects):
        margin = LINE_WIDTH / 2 if obj.kind == "line" else 0.0
        xs, ys = obj.bins[0::2], obj.bins[1::2]
        if obj.kind == "bbox_2d":
            hulls[row] = obj.bins
        else:
            hulls[row] = min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin
    return hulls


class _Canvas:
    """A square of `size` cells a side for the whole frame, drawn on when two shapes meet."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._drawn: dict[BinObject, Any] = {}

    def overlap(self, one: BinObject, other: BinObject, *, over_first: bool) -> float:
        """IoU of two masks, or the share of the first one that lies on the second."""
        from pycocotools import mask as mask_api

        masks = [self._mask(one), self._mask(other)]
        if min(mask_api.area(masks)) < _FEW_CELLS:
            x1, y1, x2, y2 = _joined(_hulls([one, other]))
            scale_xy = self._size / max(x2 - x1, 1.0), self._size / max(y2 - y1, 1.0)
            masks = [self._draw(obj, (x1, y1), scale_xy) for obj in (one, other)]
        value = mask_api.iou([masks[0]], [masks[1]], [int(over_first)])[0, 0]
        return float(np.nan_to_num(value))

    def _mask(self, obj: BinObject) -> Any:
        if obj not in self._drawn:
            scale = self._size / MAX_BIN
            self._drawn[obj] = self._draw(obj, (0.0, 0.0), (scale, scale))
        return self._drawn[obj]

    def _draw(
        self, obj: BinObject, origin_xy: tuple[float, float], scale_xy: tuple[float, float]
    ) -> Any:
        from pycocotools import mask as mask_api

        parts = []
        for outline_N2 in _outlines(obj):
            cells = (outline_N2 - np.array(origin_xy)) * np.array(scale_xy)
            parts.append(polygon_rle(cells.ravel().tolist(), self._size, self._size))
        return parts[0] if len(parts) == 1 else mask_api.merge(parts)


def _joined(hulls_N4: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x1, y1 = hulls_N4[:, :2].min(axis=0).tolist()
    x2, y2 = hulls_N4[:, 2:].max(axis=0).tolist()
    return x1, y1, x2, y2


def _outlines(obj: BinObject) -> list[NDArray[np.float64]]:
    """The polygons that an object covers, in bins: one, or a quadrangle per segment of a line."""
    points_N2 = np.array(obj.bins, dtype=np.float64).reshape(-1, 2)
    if obj.kind == "bbox_2d":
        (x1, y1), (x2, y2) = points_N2.tolist()
        return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]
    if obj.kind == "poly":
        return [points_N2]
    out = []
    for start, end in itertools.pairwise(points_N2):
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length if length else np.array([1.0, 0.0])
        along *= LINE_WIDTH / 2
        aside = np.array([-along[1], along[0]])
        start, end = start - along, end + along  # noqa: PLW2901
        out.append(np.array([start + aside, end + aside, end - aside, start - aside]))
    return out


__all__ = ["LINE_WIDTH", "BinObject", "covered_matrix", "iou_matrix"]
