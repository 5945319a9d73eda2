"""Signs that a whole dataset of pixels holds none: shares of the image, or bins of a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from coordeval.data.contract import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import GroundTruthObject

_GRID = 1000
_NEAR_GRID_END = 900
_SMALLEST_SIDE = 3
"""In images smaller than this a box in pixels lies within 0..1 as well."""
_LOG_CHANCE = math.log(1e-9)
"""Below this, honest pixels that all lie within the grid are not believed."""


class ScaleSigns:
    """Looks at every geometry given in pixels; says at the end what they seem to be instead.

    Only the whole file tells: a single small box, or one large image with all its objects in a
    corner, is nothing strange. Shares: all values within 0..1 and not all whole. Bins: all values
    whole, within 0..1000, up to its end in both directions, in images so large and so many that
    corners spread evenly over them would stay within 1000 with a chance below 1e-9.
    """

    def __init__(self) -> None:
        self._num_objects = 0
        self._largest = (0, 0)
        self._within_unit = self._within_grid = True
        self._whole = True
        self._far_xy = [0.0, 0.0]
        self._log_chance = 0.0

    def add(self, objects: Sequence[GroundTruthObject], size: tuple[int, int] | None) -> None:
        """Look at the objects of one image; its size is None where it is not known."""
        if not objects:
            return
        self._num_objects += len(objects)
        if size is not None:
            self._largest = max(self._largest, size, key=lambda wh: wh[0] * wh[1])
            self._within_unit &= min(size) >= _SMALLEST_SIDE
            self._log_chance += sum(math.log(min(1.0, _GRID / side)) for side in size)
        for obj in objects:
            low, high = min(obj.values_px), max(obj.values_px)
            self._within_unit &= low >= 0 and high <= 1
            self._within_grid &= low >= 0 and high <= _GRID
            self._whole &= all(float(value).is_integer() for value in obj.values_px)
            for axis in (0, 1):
                self._far_xy[axis] = max(self._far_xy[axis], *obj.values_px[axis::2])

    def faults(self) -> list[Fault]:
        """What the whole file looks like, at most one warning."""
        if not self._num_objects or self._largest == (0, 0):
            return []
        size = f"though images have up to {self._largest[0]}x{self._largest[1]} pixels"
        if self._within_unit and not self._whole:
            text = (
                f"every coordinate lies within 0..1, {size}: shares of width and height? "
                "multiply them"
            )
            return [Fault("normalised_geometry", text)]
        if (
            self._within_grid
            and self._whole
            and min(self._far_xy) >= _NEAR_GRID_END
            and self._log_chance < _LOG_CHANCE
        ):
            text = (
                f"every coordinate is a whole number within 0..{_GRID}, {size}: bins? "
                'records of bins say "coord_space": "bins"'
            )
            return [Fault("grid_geometry", text)]
        return []


__all__ = ["ScaleSigns"]
