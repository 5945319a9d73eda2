"""All problems of a dataset, counted by kind; nothing stops at the first."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coordeval.coords import DEFAULT_FRAME, CoordFrame, frame_named
from coordeval.data.contract import check_header, read_header_object
from coordeval.data.dataset import dataset_lines, image_root_hint, read_coco_document
from coordeval.data.federated_classes import MentionedClasses
from coordeval.data.objects import read_object
from coordeval.data.paths import resolve_image
from coordeval.data.problems import (
    PROBLEM_KINDS,
    ProblemLog,
    duplicate_faults,
    geometry_faults,
    object_fault_kind,
)
from coordeval.data.scale_signs import ScaleSigns
from coordeval.data.validate_coco import CocoWalk
from coordeval.data.validate_images import ImageJob, check_images
from coordeval.errors import DataError
from coordeval.foreign_paths import is_file
from coordeval.jsonl import load_json
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.coco import CocoGeometry
    from coordeval.data.contract import RecordHeader
    from coordeval.data.problems import Severity
    from coordeval.data.validate_images import ImageCheck

_NOT_JSON = "holds NaN or Infinity, which is not JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What validation saw: how much it read, and every problem counted by kind."""

    path: Path
    format: Literal["jsonl", "coco"]
    num_images: int
    num_objects: int
    num_images_checked: int
    log: ProblemLog
    hint: str | None

    def count(self, severity: Severity) -> int:
        """How many problems weigh so much."""
        return self.log.of_severity(severity)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        return {
            "path": str(self.path),
            "format": self.format,
            "images": self.num_images,
            "objects": self.num_objects,
            "images_checked": self.num_images_checked,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "problems": {
                kind: self.log.counts[kind] for kind in PROBLEM_KINDS if self.log.counts[kind]
            },
            "first": [
                {
                    "kind": problem.kind,
                    "severity": PROBLEM_KINDS[problem.kind].severity,
                    "place": problem.place,
                    "message": problem.message,
                }
                for problem in self.log.first
            ],
            "hint": self.hint,
        }


def validate_dataset(
    path: Path | str,
    *,
    image_root: Path | str | None = None,
    frame: str = DEFAULT_FRAME,
    images: ImageCheck = "exists",
    workers: int | None = None,
    show: int = 10,
    geometry: CocoGeometry = "poly",
    canvas: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Go through a whole dataset and its images; the first `show` problems of each kind are kept.

    `images`: `none` looks at no file, `exists` asks whether they are there, `open` decodes them in
    `workers` threads. An object that cannot be read counts once. Raises DataError only where the
    file itself cannot be read or is of neither form.
    """
    path = Path(path)
    root = Path(image_root) if image_root is not None else path.parent
    log = ProblemLog(keep=show)
    loads = _LenientLoads()
    document = read_coco_document(path, loads=loads)
    walk: CocoWalk | _JsonlWalk
    if document is not None:
        walk = CocoWalk(
            path, root, log, geometry=geometry, canvas=canvas, need_images=images != "none"
        )
        walk.walk(document)
        if loads.had_constants and not log.counts["non_finite"]:
            log.add("non_finite", str(path), _NOT_JSON)
    else:
        walk = _JsonlWalk(path, root, log, frame_named(frame))
        walk.walk()
    for fault in walk.scale.faults():
        log.add(fault.kind, str(path), fault.message)
    if walk.num_images == 0:
        log.add("empty_dataset", str(path), "the file holds no images")
    workers = workers or min(16, os.cpu_count() or 1)
    check_images(walk.jobs, log, check=images, workers=workers, on_progress=on_progress)
    return ValidationReport(
        path=path,
        format="jsonl" if document is None else "coco",
        num_images=walk.num_images,
        num_objects=walk.num_objects,
        num_images_checked=0 if images == "none" else len(walk.jobs),
        log=log,
        hint=_hint(root, walk.jobs) if log.counts["missing_image"] else None,
    )


def _hint(root: Path, jobs: list[ImageJob]) -> str | None:
    """Advice from the first image that is missing."""
    missing = next((job for job in jobs if not is_file(job.path)), None)
    if missing is None:
        return None
    return image_root_hint(root, str(missing.path.relative_to(os.path.realpath(root))))


class _JsonlWalk:
    """One pass over the lines of a JSONL dataset."""

    def __init__(self, path: Path, image_root: Path, log: ProblemLog, frame: CoordFrame) -> None:
        self.path = path
        self.image_root = image_root
        self.log = log
        self.frame = frame
        self.jobs: list[ImageJob] = []
        self.num_images = 0
        self.num_objects = 0
        self.scale = ScaleSigns()
        self._line_of_id: dict[str, int] = {}
        self._classes = MentionedClasses()

    def walk(self) -> None:
        """Check every line; a damaged archive ends the walk with a malformed line."""
        number = 0
        try:
            for number, line in dataset_lines(self.path):
                self._line(number, line)
        except DataError as error:
            self.log.add("malformed_line", f"{self.path}:{number + 1}", str(error))

    def _line(self, number: int, line: bytes) -> None:
        place = f"{self.path}:{number}"
        self.num_images += 1
        non_finite_before = self.log.counts["non_finite"]
        loads = _LenientLoads()
        try:
            raw = loads(line)
        except ValueError as error:
            self.log.add("malformed_line", place, f"not a JSON line: {error}")
            return
        header, faults = check_header(raw, self.frame)
        for fault in faults:
            self.log.add(fault.kind, place, fault.message)
        if header is not None:
            self._record(place, number, header)
        elif isinstance(raw, dict):
            self._headless(place, raw)
        if loads.had_constants and self.log.counts["non_finite"] == non_finite_before:
            self.log.add("non_finite", place, _NOT_JSON)

    def _headless(self, place: str, raw: dict[str, Any]) -> None:
        """Check the path and the form of the objects of a record whose header has faults."""
        if isinstance(raw.get("image"), str):
            self._resolve(place, raw["image"])
        objects = raw.get("objects")
        if not isinstance(objects, list):
            return
        bins = raw.get("coord_space") == "bins"
        for index, item in enumerate(objects):
            self.num_objects += 1
            try:
                # Any size serves: only what does not depend on it is reported.
                read_object(item, width=1000, height=1000, frame=self.frame, bins=bins)
            except DataError as error:
                kind = object_fault_kind(item, str(error))
                self.log.add(kind, place, f"objects[{index}]: {error}")

    def _resolve(self, place: str, image: str) -> Path | None:
        try:
            return resolve_image(self.image_root, image)
        except DataError as error:
            self.log.add("path_outside_root", place, str(error))
            return None

    def _record(self, place: str, number: int, header: RecordHeader) -> None:
        other = self._line_of_id.setdefault(header.id, number)
        if other != number:
            text = f"id {shown(header.id)} is already on line {other}"
            self.log.add("duplicate_id", place, text)
        try:
            self._classes.add(header.classes, number)
        except DataError as error:
            self.log.add("duplicate_id", place, f"'metadata' {error}")
        path = self._resolve(place, header.image)
        if path is not None:
            self.jobs.append(ImageJob(place, path, header.width, header.height))
        objects, index_of = [], []
        for index, raw in enumerate(header.raw_objects):
            self.num_objects += 1
            try:
                obj = read_header_object(header, raw)
            except DataError as error:
                kind = object_fault_kind(raw, str(error))
                self.log.add(kind, place, f"objects[{index}]: {error}")
                continue
            objects.append(obj)
            index_of.append(index)
            for fault in geometry_faults(obj, header.width, header.height):
                self.log.add(fault.kind, place, f"objects[{index}]: {fault.message}")
        if not header.bins:
            self.scale.add(objects, (header.width, header.height))
        for position, fault in duplicate_faults(objects):
            self.log.add(fault.kind, place, f"objects[{index_of[position]}]: {fault.message}")


class _LenientLoads:
    """As `load_json`, but NaN and Infinity are read, and it remembers that there were any."""

    def __init__(self) -> None:
        self.had_constants = False

    def __call__(self, data: bytes) -> Any:
        try:
            return load_json(data)
        except ValueError:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                value = None
            if value is None:
                raise
            self.had_constants = True
            return value


__all__ = ["ValidationReport", "validate_dataset"]
