"""The repair table: one deterministic repair per drop reason, else the record is unrepairable.

A repair answers "what would this record have been, had this one fault not been there?". It adds
nothing that is not written in the record, and a record whose repair still is not a valid object
stays dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coordeval.metrics.attribution.reread import Reread, reread
from coordeval.parsers import reasons
from coordeval.parsers.record import judge_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord, GeometryKind


class RepairedRecord(NamedTuple):
    """The valid object that a dropped record becomes; `values` are as written (bins or pixels)."""

    desc: str
    kind: GeometryKind
    values: tuple[int, ...]


_Draft = tuple[str | None, "GeometryKind | None", tuple[int, ...] | None]
_Look = tuple["FoundRecord", Reread]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The repair of one drop reason, in words and as a function; None: nothing can be done."""

    reason: str
    does: str
    unrepairable: str
    draft: Callable[[FoundRecord, Reread], _Draft] | None


def _as_read(record: FoundRecord, _again: Reread) -> _Draft:
    return record.desc, record.kind, record.values


def _first_of_its_lists(record: FoundRecord, again: Reread) -> _Draft:
    """As it was read; where several geometries stand there, the first of a known key."""
    if record.kind is not None or not again.lists:
        return _as_read(record, again)
    return record.desc, again.lists[0].kind, again.lists[0].values


def _only_list(record: FoundRecord, again: Reread) -> _Draft:
    """Name and coordinates of a record that holds exactly one geometry list."""
    desc = record.desc if record.desc is not None else again.desc
    if len(again.lists) != 1:
        return desc, None, None
    return desc, again.lists[0].kind, again.lists[0].values


def _only_coordinates(record: FoundRecord, again: Reread) -> _Draft:
    values = record.values
    if values is None and len(again.lists) == 1:
        values = again.lists[0].values
    if record.detail == "odd_count" and values is not None:
        values = values[:-1]
    return record.desc, record.kind, values


def _clamped(record: FoundRecord, _again: Reread) -> _Draft:
    return record.desc, record.kind, record.values  # `repair` clamps to the dialect's own grid


def _corners_in_order(record: FoundRecord, _again: Reread) -> _Draft:
    values = record.values
    if record.kind == "bbox_2d" and values is not None:
        x1, y1, x2, y2 = values
        values = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    return record.desc, record.kind, values


_REPAIRS = (
    Repair(
        reason=reasons.TRUNCATED_RECORD,
        does="closed where the cut came, if its name and all its coordinates are written",
        unrepairable="the name or a coordinate is missing",
        draft=_only_list,
    ),
    Repair(
        reason=reasons.MALFORMED_RECORD,
        does="its first name and its only geometry list are taken, whatever is broken around them",
        unrepairable="no name, no list or several lists, or too few coordinates",
        draft=_only_list,
    ),
    Repair(
        reason=reasons.UNEXPECTED_KEYS,
        does=(
            "unknown keys are ignored; a drifted key (`bbox_3d`) is read as its geometry where no "
            "proper one stands beside it"
        ),
        unrepairable="the rest has no name or no valid geometry",
        draft=_first_of_its_lists,
    ),
    Repair(
        reason=reasons.DUPLICATE_KEYS,
        does="each key keeps its first value",
        unrepairable="the first values are no valid object",
        draft=_first_of_its_lists,
    ),
    Repair(
        reason=reasons.MISSING_DESC,
        does="nothing",
        unrepairable="always: nobody knows what it is",
        draft=None,
    ),
    Repair(
        reason=reasons.MISSING_GEOMETRY,
        does="nothing",
        unrepairable="always: nobody knows where it is",
        draft=None,
    ),
    Repair(
        reason=reasons.MULTIPLE_GEOMETRY,
        does="the first geometry is taken",
        unrepairable="the first geometry is not valid",
        draft=_first_of_its_lists,
    ),
    Repair(
        reason=reasons.WRONG_ARITY,
        does=(
            "everything in the list that is no coordinate is removed (foreign tokens, inner "
            "brackets, separators; a quoted or zero-padded coordinate token counts as one), and a "
            "last x without its y"
        ),
        unrepairable="not exactly the coordinates that the geometry needs remain (4 for a box)",
        draft=_only_coordinates,
    ),
    Repair(
        reason=reasons.COORD_OUT_OF_RANGE,
        does="coordinates beyond the grid are clamped to 999",
        unrepairable="nothing is left of the geometry",
        draft=_clamped,
    ),
    Repair(
        reason=reasons.DEGENERATE_BOX,
        does="swapped corners are put in order",
        unrepairable="a side is 0, or a polygon has no area",
        draft=_corners_in_order,
    ),
    Repair(
        reason=reasons.KEY_ORDER,
        does="taken as it stands",
        unrepairable="never",
        draft=_as_read,
    ),
)
REPAIRS: dict[str, Repair] = {repair.reason: repair for repair in _REPAIRS}
"""The table, in the order of `DROP_REASONS`."""


def repair(record: FoundRecord, record_text: str, dialect: Dialect) -> RepairedRecord | None:
    """The valid object that the table makes of a dropped record; None where it is unrepairable.

    `record_text` is the record's part of the rollout's text. Kept records (no reason) and reasons
    that the table lacks give None.
    """
    entry = REPAIRS.get(record.reason or "")
    if entry is None or entry.draft is None:
        return None
    desc, kind, values = entry.draft(record, reread(record_text, dialect.coordinates))
    if desc is None or not desc.strip() or kind is None or values is None:
        return None
    largest = dialect.largest
    if record.reason == reasons.COORD_OUT_OF_RANGE and largest is not None:
        values = tuple(min(value, largest) for value in values)
    in_bins = largest is not None
    if judge_values(values, kind, in_bins=in_bins, largest=largest or 0) is not None:
        return None
    return RepairedRecord(desc, kind, values)


def repair_table_markdown() -> str:
    """The table for the docs."""
    lines = ["| drop reason | repair | unrepairable where |", "|---|---|---|"]
    lines += [f"| `{entry.reason}` | {entry.does} | {entry.unrepairable} |" for entry in _REPAIRS]
    return "\n".join(lines) + "\n"


__all__ = ["REPAIRS", "Repair", "RepairedRecord", "repair", "repair_table_markdown"]
