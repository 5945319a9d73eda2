"""Ground truth to flat columns, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.columns import GtColumns
from coordeval.metrics.compact import Numbers, Texts
from coordeval.metrics.geometry import polygon_area, whole_pixels_clamped
from coordeval.metrics.iou import Shapes, areas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.records import GroundTruthObject


class TruthColumns:
    """Ground truth of a run in the making.

    `category_ids` (normalised name -> the first id that it comes with) and `names_of_ids` (id ->
    the last name that it comes with) are what the objects say of the dataset's categories.
    """

    def __init__(self, normalise: Mapping[str, str], *, whole_pixels: bool) -> None:
        self.category_ids: dict[str, int] = {}
        self.names_of_ids: dict[int, str] = {}
        self._normalise = normalise
        self._whole_pixels = whole_pixels
        self._descs: dict[str, None] = {}
        self._image = Numbers(np.int64)
        self._boxes = Numbers(np.float64, width=4)
        self._area = Numbers(np.float64)
        self._crowd = Numbers(np.bool_)
        self._desc = Texts()
        self._zero_area, self._lines = Numbers(np.int64), Numbers(np.int64)
        self._polygons: dict[int, Sequence[float]] = {}

    def descs(self) -> list[str]:
        """Every description once, also of what is not scored, in the order of coming."""
        return list(self._descs)

    def add(
        self,
        truth: Sequence[tuple[GroundTruthObject, ...]],
        sizes_wh: NDArray[np.int64],
        *,
        first_image: int,
    ) -> None:
        """Add the objects of images whose sizes (images, 2) are given."""
        image: list[int] = []
        boxes: list[tuple[float, ...]] = []
        polygons: dict[int, Sequence[float]] = {}
        area: list[float] = []
        crowd: list[bool] = []
        zero_area, lines = np.zeros((2, len(truth)), dtype=np.int64)
        for index, objects in enumerate(truth):
            for obj in objects:
                self._note(obj)
                if obj.kind == "line":
                    lines[index] += 1
                    continue
                box, geometric_area = _hull_and_area(obj)
                if geometric_area <= 0:
                    zero_area[index] += 1
                    continue
                if obj.kind == "poly":
                    polygons[len(image)] = obj.values_px
                image.append(index)
                boxes.append(box)
                area.append(geometric_area if obj.area is None else obj.area)
                crowd.append(obj.iscrowd)
                self._desc.append(obj.desc)
        shapes = Shapes(
            image=np.asarray(image, dtype=np.int64),
            boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            polygons=polygons,
        )
        if self._whole_pixels:
            shapes = whole_pixels_clamped(shapes, sizes_wh)
        first = len(self._image)
        self._image.extend(shapes.image + first_image)
        self._boxes.extend(shapes.boxes)
        self._polygons |= {first + row: points for row, points in shapes.polygons.items()}
        self._area.extend(areas(shapes.boxes) if self._whole_pixels else area)
        self._crowd.extend(crowd)
        self._zero_area.extend(zero_area)
        self._lines.extend(lines)

    def _note(self, obj: GroundTruthObject) -> None:
        self._descs[obj.desc] = None
        if obj.category_id is not None:
            name = self._normalise[obj.desc]
            self.category_ids.setdefault(name, obj.category_id)
            self.names_of_ids[obj.category_id] = name

    def columns(self, codes: Mapping[str, int]) -> GtColumns:
        """The columns; `codes` are the class codes of normalised names."""
        code_of = {desc: codes[self._normalise[desc]] for desc in self._desc.distinct()}
        return GtColumns(
            shapes=Shapes(
                image=self._image.array(), boxes=self._boxes.array(), polygons=self._polygons
            ),
            class_code=np.fromiter(
                (code_of[desc] for desc in self._desc),  # type: ignore[index]  # none is None
                dtype=np.int64,
                count=len(self._desc),
            ),
            crowd=self._crowd.array(),
            area=self._area.array(),
            desc=self._desc,
            zero_area=self._zero_area.array(),
            lines=self._lines.array(),
        )


def _hull_and_area(obj: GroundTruthObject) -> tuple[tuple[float, ...], float]:
    values = obj.values_px
    if obj.kind == "bbox_2d":
        x1, y1, x2, y2 = values
        return values, max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
    xs, ys = values[0::2], values[1::2]
    return (min(xs), min(ys), max(xs), max(ys)), polygon_area(values)


__all__ = ["TruthColumns"]
