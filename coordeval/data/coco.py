"""COCO `instances*.json` as samples: crowd, area, category ids and the full class list kept.

LVIS files are read the same way, with what they say of classes (frequency) and images (which
classes were looked for).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeGuard

from coordeval.data.contract import read_side
from coordeval.data.federated import NEGATIVE, NOT_EXHAUSTIVE, read_federated, read_frequency
from coordeval.data.images import upright_size
from coordeval.data.objects import MAX_PX
from coordeval.data.paths import resolve_image
from coordeval.errors import DataError
from coordeval.foreign_paths import is_file
from coordeval.quoting import shown
from coordeval.records import Category, GroundTruthObject, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordeval.records import Frequency, GeometryKind

CocoGeometry = Literal["bbox", "poly"]
GEOMETRY_KEY = "geometry"
"""Our own key of an annotation, which other tools pass over."""
IMAGE_KEYS = frozenset({"id", "file_name", "width", "height"})


class ChosenGeometry(NamedTuple):
    """One annotation's geometry in pixels; `fallback` says why a polygon was not taken."""

    kind: GeometryKind
    values_px: tuple[float, ...]
    fallback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoSource:
    """A checked COCO file, grouped by image once; samples are made while iterating."""

    path: Path
    images: list[dict[str, Any]]
    annotations_by_image: dict[int, list[dict[str, Any]]]
    categories: tuple[Category, ...]
    geometry: CocoGeometry
    canvas: tuple[int, int] | None

    def count(self) -> int:
        """Images, those without annotations included."""
        return len(self.images)

    @property
    def is_federated(self) -> bool:
        """Whether a class has a frequency, or an image says what it was judged for (LVIS)."""
        return any(category.frequency is not None for category in self.categories) or any(
            NEGATIVE in raw or NOT_EXHAUSTIVE in raw for raw in self.images
        )

    def geometry_fallbacks(self) -> dict[str, int]:
        """Annotations per reason for which `poly` took the box; empty for `bbox`."""
        reasons: Counter[str] = Counter()
        if self.geometry == "poly":
            for annotations in self.annotations_by_image.values():
                for annotation in annotations:
                    chosen = choose_geometry(annotation, self.geometry)
                    if chosen.fallback is not None:
                        reasons[chosen.fallback] += 1
        return dict(reasons)

    def iter_samples(self, image_root: Path, *, need_images: bool) -> Iterator[Sample]:
        """Samples in the file's order of images; DataError names file and image or annotation."""
        names = {category.id: category.name for category in self.categories}
        for raw in self.images:
            place = f"{self.path}: image {raw['id']}"
            image = image_name(raw)
            try:
                image_path = _image_path(raw, image_root, need_images=need_images)
                width, height = self._size(raw, image_path)
                federated = read_federated(raw)
            except DataError as error:
                raise DataError(f"{place}: {error}") from None
            yield Sample(
                id=image,
                image=image,
                width=width,
                height=height,
                objects=tuple(
                    self._object(annotation, names)
                    for annotation in self.annotations_by_image.get(raw["id"], ())
                ),
                image_path=image_path if need_images else None,
                image_id=raw["id"],
                metadata={key: raw[key] for key in raw if key not in IMAGE_KEYS},
                federated=federated,
            )

    def _object(self, annotation: dict[str, Any], names: dict[int, str]) -> GroundTruthObject:
        try:
            return read_annotation(annotation, names, self.geometry)
        except DataError as error:
            place = f"{self.path}: annotation {annotation.get('id', '(without id)')}"
            raise DataError(f"{place} (image {annotation['image_id']}): {error}") from None

    def _size(self, raw: dict[str, Any], image_path: Path | None) -> tuple[int, int]:
        width, height = raw.get("width"), raw.get("height")
        if width is not None and height is not None:
            sides = read_side(width), read_side(height)
            if sides[0] is None or sides[1] is None:
                raise DataError(
                    f"width {shown(str(width), 40)} and height {shown(str(height), 40)} "
                    "must be whole numbers of pixels"
                )
            return sides[0], sides[1]
        if self.canvas is not None:
            return self.canvas
        if image_path is not None and is_file(image_path):
            return upright_size(image_path)
        raise DataError(
            "width and height are missing and the image file is not there to measure; "
            "name its folder with --image-root, or give all such images one size with --canvas WxH"
        )


def _image_path(raw: dict[str, Any], image_root: Path, *, need_images: bool) -> Path | None:
    if has_image_name(raw):
        return resolve_image(image_root, image_name(raw))
    if need_images:
        raise DataError("key 'file_name' is missing, and images are needed")
    return None


def has_image_name(raw: dict[str, Any]) -> bool:
    """Whether an image entry names a file."""
    return any(isinstance(raw.get(key), str) and raw[key] for key in ("file_name", "coco_url"))


def image_name(raw: dict[str, Any]) -> str:
    """The file name of a COCO image entry, or its id where it has none.

    LVIS names images by `coco_url` alone: folder and file of its end, as COCO's archives unpack.
    """
    name, url = raw.get("file_name"), raw.get("coco_url")
    if isinstance(name, str):
        return name
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) and url else str(raw["id"])


def looks_like_coco(document: Any) -> bool:
    """True for a mapping whose `images` are a list of mappings, or that has `annotations`."""
    if not isinstance(document, dict) or "objects" in document:
        return False
    images = document.get("images")
    if isinstance(images, list) and images and all(isinstance(item, dict) for item in images[:1]):
        return True
    return "annotations" in document or (isinstance(images, list) and "categories" in document)


def load_coco(
    document: dict[str, Any],
    path: Path,
    *,
    geometry: CocoGeometry = "bbox",
    canvas: tuple[int, int] | None = None,
) -> CocoSource:
    """Check a parsed COCO document and group its annotations by image.

    `geometry="poly"` takes polygons of one part and falls back to the box for several parts, run
    lengths and annotations without a polygon. `canvas` is the (width, height) of images that
    state none. Raises DataError for broken structure, duplicate or unknown ids.
    """
    images = _entries(document, "images", path)
    annotations = _entries(document, "annotations", path)
    categories = _categories(_entries(document, "categories", path), path)
    known = {category.id for category in categories}
    _check_images(images, path)
    grouped: dict[int, list[dict[str, Any]]] = {raw["id"]: [] for raw in images}
    for index, annotation in enumerate(annotations):
        place = f"{path}: annotation {annotation.get('id', f'at index {index}')}"
        image_id = annotation.get("image_id")
        if not is_int(image_id) or image_id not in grouped:
            raise DataError(f"{place}: {unknown_id('image_id', image_id, 'images')}")
        category_id = annotation.get("category_id")
        if not is_int(category_id) or category_id not in known:
            raise DataError(f"{place}: {unknown_id('category_id', category_id, 'categories')}")
        grouped[image_id].append(annotation)
    return CocoSource(
        path=path,
        images=images,
        annotations_by_image=grouped,
        categories=categories,
        geometry=geometry,
        canvas=canvas,
    )


def _entries(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise DataError(f"{path}: COCO key {key!r} is missing or not a list")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}[{index}] is not a JSON object")
    return entries


def is_int(value: Any) -> TypeGuard[int]:
    """True for whole numbers; JSON's true and false are none, though Python's are."""
    return isinstance(value, int) and not isinstance(value, bool)


def unknown_id(key: str, value: Any, where: str) -> str:
    """What is wrong with an id that names nothing: said apart for the string "1" and the number."""
    text = f"{key} {shown(str(value), 40)} is not in {where!r}"
    return text if is_int(value) else f"{text}: an id must be an integer, not {_json_type(value)}"


def _json_type(value: Any) -> str:
    names = {str: "a string", float: "a number with a point", bool: "a boolean", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


def _categories(entries: list[dict[str, Any]], path: Path) -> tuple[Category, ...]:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        category_id, name = entry.get("id"), entry.get("name")
        if not is_int(category_id):
            raise DataError(f"{path}: categories[{index}]: 'id' must be an integer")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: category {category_id}: 'name' must be a non-blank string")
        if category_id in seen:
            raise DataError(f"{path}: category {category_id} stands there twice")
        seen.add(entry["id"])
    return tuple(
        Category(id=entry["id"], name=entry["name"], frequency=_frequency(entry, path))
        for entry in entries
    )


def _frequency(entry: dict[str, Any], path: Path) -> Frequency | None:
    try:
        return read_frequency(entry)
    except DataError as error:
        raise DataError(f"{path}: category {entry['id']}: {error}") from None


def _check_images(images: list[dict[str, Any]], path: Path) -> None:
    ids: set[int] = set()
    id_of_name: dict[str, int] = {}
    for index, raw in enumerate(images):
        image_id = raw.get("id")
        if not isinstance(image_id, int) or isinstance(image_id, bool):
            raise DataError(f"{path}: images[{index}]: 'id' must be an integer")
        if image_id in ids:
            raise DataError(f"{path}: image {image_id} stands there twice")
        ids.add(image_id)
        if "file_name" in raw and not isinstance(raw["file_name"], str):
            raise DataError(f"{path}: image {image_id}: 'file_name' must be a string")
        other = id_of_name.setdefault(image_name(raw), image_id)
        if other != image_id:
            raise DataError(
                f"{path}: images {other} and {image_id} have the same file_name "
                f"{shown(image_name(raw))}"
            )


def read_annotation(
    annotation: dict[str, Any], names: dict[int, str], geometry: CocoGeometry
) -> GroundTruthObject:
    """One annotation as an object; DataError without the place. Degenerate boxes are kept."""
    iscrowd = annotation.get("iscrowd", 0)
    if iscrowd not in (0, 1):
        raise DataError("'iscrowd' must be 0 or 1")
    area = annotation.get("area")
    if area is not None:
        (area,) = _floats([area], "area", MAX_PX**2)
    chosen = choose_geometry(annotation, geometry)
    return GroundTruthObject(
        names[annotation["category_id"]],
        chosen.kind,
        chosen.values_px,
        bool(iscrowd),
        area,
        annotation["category_id"],
    )


def choose_geometry(annotation: dict[str, Any], geometry: CocoGeometry) -> ChosenGeometry:
    """The box (x, y, x + w, y + h), or with `poly` the polygon where it has exactly one part.

    An annotation whose key `geometry` says `bbox_2d` is a box; its mask is but its rectangle.
    """
    fallback = None
    if geometry == "poly" and annotation.get(GEOMETRY_KEY) != "bbox_2d":
        polygon, fallback = _single_polygon(annotation)
        if polygon is not None:
            return ChosenGeometry("poly", polygon, None)
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list):
        raise DataError("'bbox' is missing or not a list")
    if len(bbox) != 4:
        raise DataError(f"'bbox' needs 4 numbers (x, y, width, height), found {len(bbox)}")
    x, y, width, height = _floats(bbox, "bbox")
    return ChosenGeometry("bbox_2d", (x, y, x + width, y + height), fallback)


def _single_polygon(annotation: dict[str, Any]) -> tuple[tuple[float, ...] | None, str | None]:
    segmentation = annotation.get("segmentation")
    if annotation.get("iscrowd") or isinstance(segmentation, dict):
        return None, "run_lengths"
    if not isinstance(segmentation, list) or not segmentation:
        return None, "no_polygon"
    if len(segmentation) > 1:
        return None, "several_parts"
    part = segmentation[0]
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return None, "broken_polygon"
    return tuple(_floats(part, "segmentation")), None


def _floats(values: list[Any], key: str, most: float = MAX_PX) -> list[float]:
    out = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{key!r} must hold numbers, not {shown(str(value), 40)}")
        if not -most <= value <= most:
            raise DataError(f"{key!r} holds a number that is not finite or beyond {most:.0e}")
        out.append(float(value))
    return out


__all__ = [
    "GEOMETRY_KEY",
    "IMAGE_KEYS",
    "ChosenGeometry",
    "CocoGeometry",
    "CocoSource",
    "choose_geometry",
    "has_image_name",
    "image_name",
    "is_int",
    "load_coco",
    "looks_like_coco",
    "read_annotation",
    "unknown_id",
]
