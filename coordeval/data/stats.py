"""What a dataset holds: objects per image, sizes, classes and repeated ground truth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.data.geometry import area_px, is_degenerate
from coordeval.data.names import normalise_desc
from coordeval.data.objects import hull_px
from coordeval.data.problems import duplicate_faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.records import Category, GroundTruthObject, Sample

SMALL_AREA_PX2, LARGE_AREA_PX2 = 32.0**2, 96.0**2
"""COCO's borders: small < 32^2 <= medium < 96^2 <= large, in square pixels."""
NEAR_IOU = 0.90


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean, percentiles and maximum of a quantity."""

    mean: float
    p10: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStats:
    """Counts over a whole dataset; crowd regions stand apart, in `crowd` alone.

    `objects_per_image` counts objects that are not crowd (empty images count 0), `relative_area`
    is object area / image area of objects with extent and finite area; both None where there is
    nothing.
    `sizes` uses the dataset's own `area` where it has one, as COCO does. `classes` is by
    description as written, most frequent first; `unused_classes` are names of the class list
    without an object. `near_duplicates` are objects that are no exact duplicate and have an
    earlier object of the same normalised description with box IoU >= 0.90.
    """

    images: int
    empty_images: int
    objects: int
    crowd: int
    degenerate: int
    geometries: dict[str, int]
    objects_per_image: Spread | None
    sizes: dict[str, int]
    relative_area: Spread | None
    classes: dict[str, int]
    unused_classes: tuple[str, ...]
    exact_duplicates: int
    near_duplicates: int

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def dataset_stats(
    samples: Iterable[Sample], categories: Sequence[Category] | None = None
) -> DatasetStats:
    """Go through the samples once; an empty dataset gives zeros and None."""
    per_image: list[int] = []
    relative: list[float] = []
    sizes = {"small": 0, "medium": 0, "large": 0}
    geometries: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    crowd = degenerate = exact = near = 0
    for sample in samples:
        objects = [obj for obj in sample.objects if not obj.iscrowd]
        crowd += len(sample.objects) - len(objects)
        per_image.append(len(objects))
        geometries.update(obj.kind for obj in objects)
        classes.update(obj.desc for obj in objects)
        for obj in objects:
            if is_degenerate(obj):
                degenerate += 1
            elif obj.kind != "line":
                area = obj.area if obj.area is not None else area_px(obj)
                sizes[_size_name(area)] += 1
                share = area_px(obj) / (sample.width * sample.height)
                if math.isfinite(share):
                    relative.append(share)
        repeats = {index for index, _ in duplicate_faults(objects)}
        exact += len(repeats)
        near += near_duplicates([obj for i, obj in enumerate(objects) if i not in repeats])
    return DatasetStats(
        images=len(per_image),
        empty_images=per_image.count(0),
        objects=sum(per_image),
        crowd=crowd,
        degenerate=degenerate,
        geometries=dict(geometries),
        objects_per_image=_spread(per_image),
        sizes=sizes,
        relative_area=_spread(relative),
        classes=dict(classes.most_common()),
        unused_classes=tuple(
            category.name for category in categories or () if category.name not in classes
        ),
        exact_duplicates=exact,
        near_duplicates=near,
    )


def near_duplicates(objects: Sequence[GroundTruthObject]) -> int:
    """Objects with an earlier one of the same normalised description and hull IoU >= 0.90."""
    by_class: dict[str, list[tuple[float, float, float, float]]] = {}
    for obj in objects:
        if obj.kind != "line" and not is_degenerate(obj):
            by_class.setdefault(normalise_desc(obj.desc), []).append(hull_px(obj))
    count = 0
    for boxes in by_class.values():
        if len(boxes) > 1:
            iou = _pairwise_iou(np.asarray(boxes))
            count += int(np.any(np.tril(iou, -1) >= NEAR_IOU, axis=1).sum())
    return count


def _pairwise_iou(boxes_xyxy: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    low = np.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    return common / (areas[:, None] + areas[None, :] - common)


def _size_name(area: float) -> str:
    if area < SMALL_AREA_PX2:
        return "small"
    return "medium" if area < LARGE_AREA_PX2 else "large"


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    p10, p50, p90, p99 = (float(value) for value in np.percentile(values, [10, 50, 90, 99]))
    return Spread(
        mean=float(np.mean(values)), p10=p10, p50=p50, p90=p90, p99=p99, max=float(max(values))
    )


__all__ = [
    "LARGE_AREA_PX2",
    "NEAR_IOU",
    "SMALL_AREA_PX2",
    "DatasetStats",
    "Spread",
    "dataset_stats",
    "near_duplicates",
]
