"""Run-length masks of objects, made when they are asked for: a run's whole list would be large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from coordeval.metrics.iou import polygon_rle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.iou import Shapes


class Masks(Sequence[Any]):
    """Masks (pycocotools form) of the `rows` of `shapes`; a mere box is drawn as its rectangle.

    `sizes_wh` (images, 2) are the canvases in pixels. Every access draws anew.
    """

    def __init__(
        self, shapes: Shapes, sizes_wh: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> None:
        self._shapes, self._sizes_wh, self._rows = shapes, sizes_wh, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> Masks: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return Masks(self._shapes, self._sizes_wh, self._rows[place])
        row = int(self._rows[place])
        points = self._shapes.polygons.get(row)
        if points is None:
            x1, y1, x2, y2 = self._shapes.boxes[row].tolist()
            points = [x1, y1, x2, y1, x2, y2, x1, y2]
        width, height = self._sizes_wh[self._shapes.image[row]].tolist()
        return polygon_rle(points, width, height)

    def pick(self, places: NDArray[np.int64]) -> Masks:
        """The masks at these places, in this order."""
        return Masks(self._shapes, self._sizes_wh, self._rows[places])

    def areas(self) -> NDArray[np.float64]:
        """Their areas in pixels squared (N)."""
        from pycocotools import mask as mask_api

        # One at a time: pycocotools 2.0.11 fails on lists of more than 255 masks.
        return np.fromiter(
            (float(mask_api.area(mask)) for mask in self), dtype=np.float64, count=len(self)
        )


__all__ = ["Masks"]
