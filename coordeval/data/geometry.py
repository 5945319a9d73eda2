"""Areas, and the geometries that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.data.objects import hull_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import GroundTruthObject

_ZERO_AREA_PX2 = 1e-9


def polygon_area_px(values_px: Sequence[float]) -> float:
    """Area of a flat polygon x, y, x, y, ... in square pixels (shoelace formula), never negative.

    Coordinates are taken relative to the first point, which keeps digits far from the origin.
    """
    xs = [x - values_px[0] for x in values_px[0::2]]
    ys = [y - values_px[1] for y in values_px[1::2]]
    twice = 0.0
    for i in range(len(xs)):
        twice += xs[i - 1] * ys[i] - xs[i] * ys[i - 1]
    return abs(twice) / 2


def area_px(obj: GroundTruthObject) -> float:
    """Area of an object's geometry in square pixels; 0 for lines and for inverted boxes."""
    if obj.kind == "poly":
        return polygon_area_px(obj.values_px)
    if obj.kind == "line":
        return 0.0
    x1, y1, x2, y2 = hull_px(obj)
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def is_degenerate(obj: GroundTruthObject) -> bool:
    """True for a box without positive sides, a polygon without area, a line without length."""
    if obj.kind == "bbox_2d":
        x1, y1, x2, y2 = obj.values_px
        return x2 <= x1 or y2 <= y1
    if obj.kind == "poly":
        return polygon_area_px(obj.values_px) <= _ZERO_AREA_PX2
    x1, y1, x2, y2 = hull_px(obj)
    return x1 == x2 and y1 == y2


__all__ = ["area_px", "is_degenerate", "polygon_area_px"]
