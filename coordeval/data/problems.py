"""What can be wrong with a dataset: the kinds, their weight, and a log that counts them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from coordeval.data.contract import Fault
from coordeval.data.geometry import is_degenerate
from coordeval.records import GEOMETRY_KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import GroundTruthObject

Severity = Literal["error", "warning"]


class ProblemKind(NamedTuple):
    """How much a kind of problem weighs, and what it means."""

    severity: Severity
    meaning: str


# Error: a command that reads the dataset stops here, or an image of it cannot be shown to a model.
# Warning: it reads and scores, but the numbers may not mean what the user thinks.
PROBLEM_KINDS: dict[str, ProblemKind] = {
    "malformed_line": ProblemKind("error", "not a JSON object"),
    "missing_key": ProblemKind("error", "a key that the contract needs is absent"),
    "bad_value": ProblemKind("error", "a key holds a value of the wrong type or range"),
    "non_finite": ProblemKind("error", "a number is NaN, infinite or too large"),
    "blank_desc": ProblemKind("error", "a description is absent, blank or not a string"),
    "bad_geometry": ProblemKind("error", "no geometry, several, or one that cannot be read"),
    "unknown_category": ProblemKind("error", "category_id is not in the class list"),
    "unknown_image": ProblemKind("error", "an annotation belongs to no image of the file"),
    "duplicate_id": ProblemKind("error", "two records, images or categories share an id"),
    "path_outside_root": ProblemKind("error", "the image path is empty, a URL or leaves the root"),
    "missing_image": ProblemKind("error", "there is no such image file"),
    "unreadable_image": ProblemKind("error", "the image file cannot be decoded"),
    "size_mismatch": ProblemKind("error", "width and height are not those of the upright image"),
    "degenerate_box": ProblemKind("warning", "x2 <= x1 or y2 <= y1: excluded from scoring"),
    "zero_area_polygon": ProblemKind("warning", "no area: excluded from scoring"),
    "zero_length_line": ProblemKind("warning", "all points of a line coincide"),
    "out_of_image": ProblemKind("warning", "a coordinate lies outside the image"),
    "normalised_geometry": ProblemKind("warning", "shares of the image where pixels belong"),
    "grid_geometry": ProblemKind("warning", "bins of a grid where pixels belong"),
    "duplicate_object": ProblemKind("warning", "same description and geometry as another object"),
    "duplicate_annotation_id": ProblemKind("warning", "COCO tools keep only one of them"),
    "duplicate_category": ProblemKind(
        "warning", "two classes share a name and cannot be told apart"
    ),
    "empty_dataset": ProblemKind("warning", "there is no record at all"),
}

OUTSIDE_TOLERANCE_PX = 0.01
"""Coordinates this far beyond the border are rounding of the source (COCO has two decimals)."""


class Problem(NamedTuple):
    """One problem: its kind, where it stands (file:line, or file and COCO id), and what it is."""

    kind: str
    place: str
    message: str


@dataclass(slots=True, kw_only=True)
class ProblemLog:
    """Counts every problem by kind and keeps the first `keep` of each kind."""

    keep: int
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Problem] = field(default_factory=list)

    def add(self, kind: str, place: str, message: str) -> None:
        """Count one problem; `kind` must stand in PROBLEM_KINDS."""
        assert kind in PROBLEM_KINDS, kind
        self.counts[kind] += 1
        if self.counts[kind] <= self.keep:
            self.first.append(Problem(kind, place, message))

    def of_severity(self, severity: Severity) -> int:
        """How many problems weigh so much."""
        return sum(n for kind, n in self.counts.items() if PROBLEM_KINDS[kind].severity == severity)


def object_fault_kind(raw: Any, message: str) -> str:
    """The problem kind of an object that `read_object` refused with `message`."""
    if not isinstance(raw, dict):
        return "bad_value"
    desc = raw.get("desc")
    if not isinstance(desc, str) or not desc.strip():
        return "blank_desc"
    if "finite" in message:
        return "non_finite"
    if any(f"'{kind}'" in message for kind in GEOMETRY_KINDS) or message.startswith("exactly one"):
        return "bad_geometry"
    return "bad_value"


def geometry_faults(obj: GroundTruthObject, width: int, height: int) -> list[Fault]:
    """Warnings about one readable object: no area, or coordinates outside the image."""
    faults = []
    written = ", ".join(f"{value:g}" for value in obj.values_px[:6])
    if is_degenerate(obj):
        kind = {
            "bbox_2d": "degenerate_box",
            "poly": "zero_area_polygon",
            "line": "zero_length_line",
        }[obj.kind]
        faults.append(Fault(kind, f"{obj.kind} [{written}] of {obj.desc!r} has no extent"))
    for values, side in ((obj.values_px[0::2], width), (obj.values_px[1::2], height)):
        low, high = -OUTSIDE_TOLERANCE_PX, side + OUTSIDE_TOLERANCE_PX
        if min(values) < low or max(values) > high:
            text = f"{obj.kind} [{written}] of {obj.desc!r} leaves the image ({width}x{height})"
            faults.append(Fault("out_of_image", text))
            break
    return faults


def duplicate_faults(objects: Sequence[GroundTruthObject]) -> list[tuple[int, Fault]]:
    """Objects (index, fault) that repeat an earlier one in description, geometry and crowd flag."""
    first: dict[tuple[str, str, tuple[float, ...], bool], int] = {}
    faults = []
    for index, obj in enumerate(objects):
        key = (obj.desc, obj.kind, obj.values_px, obj.iscrowd)
        other = first.setdefault(key, index)
        if other != index:
            text = f"{obj.desc!r} repeats object {other} exactly"
            faults.append((index, Fault("duplicate_object", text)))
    return faults


__all__ = [
    "OUTSIDE_TOLERANCE_PX",
    "PROBLEM_KINDS",
    "Problem",
    "ProblemKind",
    "ProblemLog",
    "Severity",
    "duplicate_faults",
    "geometry_faults",
    "object_fault_kind",
]
