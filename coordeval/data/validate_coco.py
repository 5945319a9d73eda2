"""Every problem of a COCO instances document, found without stopping at the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.data.coco import has_image_name, image_name, is_int, read_annotation, unknown_id
from coordeval.data.contract import read_side
from coordeval.data.federated import read_federated, read_frequency
from coordeval.data.paths import resolve_image
from coordeval.data.problems import ProblemLog, duplicate_faults, geometry_faults
from coordeval.data.scale_signs import ScaleSigns
from coordeval.data.validate_images import ImageJob
from coordeval.errors import DataError
from coordeval.foreign_paths import is_file
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.data.coco import CocoGeometry
    from coordeval.records import GroundTruthObject


class CocoWalk:
    """One pass over a COCO document: logs problems, counts, and gathers the images to look at."""

    def __init__(
        self,
        path: Path,
        image_root: Path,
        log: ProblemLog,
        *,
        geometry: CocoGeometry,
        canvas: tuple[int, int] | None,
        need_images: bool,
    ) -> None:
        self.path = path
        self.image_root = image_root
        self.log = log
        self.geometry = geometry
        self.canvas = canvas
        self.need_images = need_images
        self.scale = ScaleSigns()
        self.jobs: list[ImageJob] = []
        self.num_images = 0
        self.num_objects = 0

    def walk(self, document: dict[str, Any]) -> None:
        """Check the class list, then the images, then the annotations."""
        names = self._categories(self._entries(document, "categories"))
        sizes = self._images(self._entries(document, "images"))
        self._annotations(self._entries(document, "annotations"), names, sizes)

    def _entries(self, document: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        entries = document.get(key)
        if not isinstance(entries, list):
            self.log.add("missing_key", str(self.path), f"key {key!r} is missing or not a list")
            return []
        out = []
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                place = f"{self.path}: {_SINGULAR[key]} {entry.get('id', f'at index {index}')}"
                out.append((place, entry))
            else:
                self.log.add("bad_value", f"{self.path}: {key}[{index}]", "is not a JSON object")
        return out

    def _categories(self, entries: list[tuple[str, dict[str, Any]]]) -> dict[int, str]:
        names: dict[int, str] = {}
        seen_names: set[str] = set()
        for place, entry in entries:
            category_id, name = entry.get("id"), entry.get("name")
            if not is_int(category_id):
                self.log.add("bad_value", place, "'id' must be an integer")
                continue
            if category_id in names:
                self.log.add("duplicate_id", place, "stands in 'categories' twice")
            if not isinstance(name, str) or not name.strip():
                self.log.add("blank_desc", place, "'name' must be a non-blank string")
                name = f"category {category_id}"
            elif name in seen_names:
                self.log.add("duplicate_category", place, f"the name {shown(name)} is taken")
            self._report(place, read_frequency, entry)
            seen_names.add(name)
            names.setdefault(category_id, name)
        return names

    def _images(
        self, entries: list[tuple[str, dict[str, Any]]]
    ) -> dict[int, tuple[int, int] | None]:
        sizes: dict[int, tuple[int, int] | None] = {}
        id_of_name: dict[str, int] = {}
        for place, entry in entries:
            self.num_images += 1
            image_id = entry.get("id")
            if not is_int(image_id):
                self.log.add("bad_value", place, "'id' must be an integer")
                continue
            if image_id in sizes:
                self.log.add("duplicate_id", place, "stands in 'images' twice")
                continue
            other = id_of_name.setdefault(image_name(entry), image_id)
            if other != image_id:
                text = f"file_name {shown(image_name(entry))} is also that of image {other}"
                self.log.add("duplicate_id", place, text)
            self._report(place, read_federated, entry)
            sizes[image_id] = self._image(place, entry)
        return sizes

    def _report(self, place: str, read: Callable[[dict[str, Any]], Any], raw: Any) -> None:
        try:
            read(raw)
        except DataError as error:
            self.log.add("bad_value", place, str(error))

    def _image(self, place: str, entry: dict[str, Any]) -> tuple[int, int] | None:
        """Queue one image file and return the size that the document gives it, if any."""
        path = self._image_path(place, entry)
        width, height = entry.get("width"), entry.get("height")
        size: tuple[int, int] | None = None
        if width is not None and height is not None:
            sides = read_side(width), read_side(height)
            if sides[0] is None or sides[1] is None:
                self.log.add("bad_value", place, "width and height must be whole pixels")
            else:
                size = (sides[0], sides[1])
        elif self.canvas is not None:
            size = self.canvas
        elif path is None or not is_file(path):
            text = "width and height are missing, and there is no image file to measure"
            self.log.add("missing_key", place, text)
        if path is not None:
            stated = size if width is not None and height is not None else None
            self.jobs.append(ImageJob(place, path, *(stated or (None, None))))
        return size

    def _image_path(self, place: str, entry: dict[str, Any]) -> Path | None:
        if not has_image_name(entry) and "file_name" not in entry and not self.need_images:
            return None
        if not has_image_name(entry):
            self.log.add("missing_key", place, "'file_name' is missing or not a string")
            return None
        try:
            return resolve_image(self.image_root, image_name(entry))
        except DataError as error:
            self.log.add("path_outside_root", place, str(error))
            return None

    def _annotations(
        self,
        entries: list[tuple[str, dict[str, Any]]],
        names: dict[int, str],
        sizes: dict[int, tuple[int, int] | None],
    ) -> None:
        ids: set[int] = set()
        by_image: dict[int, list[tuple[str, GroundTruthObject]]] = {}
        for place, entry in entries:
            self.num_objects += 1
            annotation_id = entry.get("id")
            if isinstance(annotation_id, int):
                if annotation_id in ids:
                    self.log.add("duplicate_annotation_id", place, "the id is taken")
                ids.add(annotation_id)
            image_id = entry.get("image_id")
            if not is_int(image_id) or image_id not in sizes:
                text = unknown_id("image_id", image_id, "images")
                self.log.add("unknown_image", place, text)
                continue
            obj = self._annotation(place, entry, names)
            if obj is None:
                continue
            size = sizes[image_id]
            if size is not None:
                for fault in geometry_faults(obj, *size):
                    self.log.add(fault.kind, place, fault.message)
            by_image.setdefault(image_id, []).append((place, obj))
        for image_id, placed in by_image.items():
            self.scale.add([obj for _, obj in placed], sizes[image_id])
            for index, fault in duplicate_faults([obj for _, obj in placed]):
                self.log.add(fault.kind, placed[index][0], fault.message)

    def _annotation(
        self, place: str, entry: dict[str, Any], names: dict[int, str]
    ) -> GroundTruthObject | None:
        category_id = entry.get("category_id")
        if not is_int(category_id) or category_id not in names:
            text = unknown_id("category_id", category_id, "categories")
            self.log.add("unknown_category", place, text)
            return None
        try:
            return read_annotation(entry, names, self.geometry)
        except DataError as error:
            self.log.add(_fault_kind(str(error)), place, str(error))
            return None


_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


def _fault_kind(message: str) -> str:
    if "finite" in message:
        return "non_finite"
    if "'bbox'" in message or "'segmentation'" in message:
        return "bad_geometry"
    return "bad_value"


__all__ = ["CocoWalk"]
