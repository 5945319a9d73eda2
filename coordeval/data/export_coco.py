"""A dataset as a COCO instances document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.data.coco import GEOMETRY_KEY, IMAGE_KEYS
from coordeval.data.federated_classes import CLASSES, with_unlisted, write_category
from coordeval.data.geometry import area_px
from coordeval.data.objects import hull_px
from coordeval.records import Category

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.data.dataset import Dataset
    from coordeval.records import GroundTruthObject, Sample


def coco_document(dataset: Dataset) -> tuple[dict[str, Any], int]:
    """The COCO document of a dataset, and how many lines it had to leave out.

    Image ids are the dataset's where every image has its own, else 1, 2, ...; so are category ids,
    by description. Classes that its records name (federated data) keep ids and frequencies. `area`
    is the dataset's, else that of the geometry. Where there are polygons, a box has its rectangle
    as its mask, since COCO tools that compare masks ask every annotation for one; the key
    `geometry` says that it is a box. Empty in, empty lists out.
    """
    samples = list(dataset.iter_samples())
    image_ids = _image_ids(samples)
    categories = _categories(samples, dataset.categories)
    name_of_id = {category.id: category.name for category in categories}
    id_of_name = {category.name: category.id for category in categories}
    annotations: list[dict[str, Any]] = []
    with_masks = any(obj.kind == "poly" for sample in samples for obj in sample.objects)
    lines = 0
    for sample, image_id in zip(samples, image_ids, strict=True):
        for obj in sample.objects:
            if obj.kind == "line":
                lines += 1
                continue
            category_id = _category_id(obj, name_of_id, id_of_name)
            annotation = _annotation(obj, image_id, category_id, with_masks=with_masks)
            annotations.append({"id": len(annotations) + 1, **annotation})
    document = {
        "images": [
            _image(sample, image_id) for sample, image_id in zip(samples, image_ids, strict=True)
        ],
        "annotations": annotations,
        "categories": [write_category(category) for category in categories],
    }
    return document, lines


def _image(sample: Sample, image_id: int) -> dict[str, Any]:
    kept_apart = IMAGE_KEYS | {CLASSES}
    extra = {key: value for key, value in sample.metadata.items() if key not in kept_apart}
    own = {
        "id": image_id,
        "file_name": sample.image,
        "width": sample.width,
        "height": sample.height,
    }
    return own | extra


def _image_ids(samples: Sequence[Sample]) -> list[int]:
    given = [sample.image_id for sample in samples if sample.image_id is not None]
    if len(given) == len(samples) == len(set(given)):
        return given
    return list(range(1, len(samples) + 1))


def _categories(
    samples: Sequence[Sample], listed: tuple[Category, ...] | None
) -> tuple[Category, ...]:
    """The class list and what it lacks; without one the distinct descriptions.

    Those in alphabetical order, with the dataset's ids where they are clear.
    """
    ids_of_name: dict[str, set[int | None]] = {}
    for sample in samples:
        for obj in sample.objects:
            ids_of_name.setdefault(obj.desc, set()).add(obj.category_id)
    if listed:
        return with_unlisted(listed, ids_of_name)
    given = [next(iter(ids)) for ids in ids_of_name.values() if len(ids) == 1]
    clear = [category_id for category_id in given if category_id is not None]
    if len(clear) == len(ids_of_name) == len(set(clear)):
        pairs = zip(clear, ids_of_name, strict=True)
        return tuple(Category(id=number, name=name) for number, name in sorted(pairs))
    return tuple(
        Category(id=number, name=name) for number, name in enumerate(sorted(ids_of_name), start=1)
    )


def _category_id(
    obj: GroundTruthObject, name_of_id: dict[int, str], id_of_name: dict[str, int]
) -> int:
    """An object's own id where it is one of its name: two classes may share a name."""
    if obj.category_id is not None and name_of_id.get(obj.category_id) == obj.desc:
        return obj.category_id
    return id_of_name[obj.desc]


def _annotation(
    obj: GroundTruthObject, image_id: int, category_id: int, *, with_masks: bool
) -> dict[str, Any]:
    x1, y1, x2, y2 = hull_px(obj)
    annotation: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": obj.area if obj.area is not None else area_px(obj),
        "iscrowd": int(obj.iscrowd),
    }
    if obj.kind == "poly":
        annotation["segmentation"] = [list(obj.values_px)]
    elif with_masks:
        annotation["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        annotation[GEOMETRY_KEY] = "bbox_2d"
    return annotation


__all__ = ["coco_document"]
