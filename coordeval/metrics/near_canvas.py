"""Polygons that leave their canvas by far, cut to its surroundings before they are drawn.

Rasterisers walk along edges pixel by pixel, so one vertex at 1e9 costs gigabytes and minutes, and
one at 1e50 ends the process (pycocotools counts in C integers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGIN_PX = 4096
"""Polygons that stay this near the canvas are drawn as they are."""
_FARTHEST_PX = 1e12
"""Vertices are moved up to here first, so that no product of theirs overflows."""

_Point = tuple[float, float]


def near_canvas(flat_xy_px: Sequence[float], width: float, height: float) -> list[float]:
    """The flat polygon x, y, x, y, ..., cut where it leaves the canvas by more than `MARGIN_PX`.

    What is seen on the canvas is the same. Sutherland and Hodgman, Reentrant polygon clipping,
    1974: edges may run along the margin's rim. Empty where nothing of the polygon is near.
    Coordinates must be finite.
    """
    flat = [float(value) for value in flat_xy_px]
    low, right, bottom = -float(MARGIN_PX), width + MARGIN_PX, height + MARGIN_PX
    if all(low <= x <= right for x in flat[0::2]) and all(low <= y <= bottom for y in flat[1::2]):
        return flat
    bounded = [min(max(value, -_FARTHEST_PX), _FARTHEST_PX) for value in flat]
    points = list(zip(bounded[0::2], bounded[1::2], strict=True))
    for axis, rim, sign in ((0, low, 1), (0, right, -1), (1, low, 1), (1, bottom, -1)):
        points = _cut(points, axis, rim, sign)
    return [value for point in points for value in point]


def _cut(points: Sequence[_Point], axis: int, rim: float, sign: int) -> list[_Point]:
    """The part on the side of a line x = rim or y = rim (axis 0 or 1) to which `sign` points."""
    kept: list[_Point] = []
    for before, point in zip([*points[-1:], *points[:-1]], points, strict=True):
        was_in, is_in = (sign * (p[axis] - rim) >= 0 for p in (before, point))
        if was_in != is_in:
            share = (rim - before[axis]) / (point[axis] - before[axis])
            other = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
            kept.append((rim, other) if axis == 0 else (other, rim))
        if is_in:
            kept.append(point)
    return kept


__all__ = ["MARGIN_PX", "near_canvas"]
