"""Values as a model wrote them to boxes and polygons in pixels, vectorised over all images."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.iou import Shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame


def image_scales(frame: CoordFrame | None, sizes_wh: NDArray[np.int64]) -> NDArray[np.float64]:
    """Extents along x and y per image (images, 2); ones where the values are pixels already."""
    if frame is None or not len(sizes_wh):
        return np.ones((len(sizes_wh), 2))
    extents = {
        (width, height): frame.extents_px(width, height)
        for width, height in set(map(tuple, sizes_wh.tolist()))
    }
    return np.array([extents[(width, height)] for width, height in sizes_wh.tolist()])


def shapes_from_values(
    image: NDArray[np.int64],
    kind_is_poly: NDArray[np.bool_],
    values: Sequence[tuple[float, ...]],
    sizes_wh: NDArray[np.int64],
    frame: CoordFrame | None,
) -> Shapes:
    """Boxes and polygons of many images in pixels.

    `values` are bins of `frame`, or pixels where `frame` is None. Nothing is clipped. No values
    give empty shapes.
    """
    scales = image_scales(frame, sizes_wh)
    denominator = frame.denominator if frame is not None else 1
    offset = frame.offset if frame is not None else 0.0
    boxes = np.zeros((len(values), 4))
    polygons: dict[int, list[float]] = {}
    poly_rows = np.flatnonzero(kind_is_poly)
    if len(poly_rows):
        box_rows = np.flatnonzero(~kind_is_poly)
        flat = chain.from_iterable(values[row] for row in box_rows.tolist())
    else:
        box_rows = np.arange(len(values))
        flat = chain.from_iterable(values)
    bins = np.fromiter(flat, dtype=np.float64, count=4 * len(box_rows)).reshape(-1, 4)
    # The same steps as CoordFrame.to_pixels, so that the floats are equal to the last bit.
    boxes[box_rows] = (bins + offset) * np.tile(scales[image[box_rows]], 2) / denominator
    for row in poly_rows.tolist():
        points = np.asarray(values[row], dtype=np.float64).reshape(-1, 2)
        points = (points + offset) * scales[image[row]] / denominator
        polygons[row] = points.ravel().tolist()
        boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
    return Shapes(image=image, boxes=boxes, polygons=polygons)


def polygon_area(flat_xy: Sequence[float]) -> float:
    """The shoelace area of one polygon, always >= 0."""
    points = np.asarray(flat_xy, dtype=np.float64).reshape(-1, 2)
    x, y = points[:, 0] - points[0, 0], points[:, 1] - points[0, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2.0)


def outside_canvas(shapes: Shapes, extents_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Per object: does its hull leave 0 .. extent (images, 2)? A hair of rounding is forgiven."""
    limit = np.tile(extents_px[shapes.image], 2) + 1e-6
    return np.asarray(((shapes.boxes < -1e-6) | (shapes.boxes > limit)).any(axis=1), dtype=np.bool_)


def whole_pixels_clamped(shapes: Shapes, sizes_wh: NDArray[np.int64]) -> Shapes:
    """Boxes rounded to whole pixels and clamped to 0 .. size - 1; polygons likewise."""
    limit = sizes_wh[shapes.image].astype(np.float64) - 1.0
    boxes = np.clip(np.rint(shapes.boxes), 0.0, np.tile(limit, 2))
    polygons = {
        row: np.clip(np.rint(np.reshape(points, (-1, 2))), 0.0, limit[row]).ravel().tolist()
        for row, points in shapes.polygons.items()
    }
    return Shapes(image=shapes.image, boxes=boxes, polygons=polygons)


__all__ = [
    "image_scales",
    "outside_canvas",
    "polygon_area",
    "shapes_from_values",
    "whole_pixels_clamped",
]
