"""What reading a foreign text has brought so far: its records, judged, and its issues."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from coordeval.parsers import reasons
from coordeval.parsers.brackets import MAX_VALUE
from coordeval.parsers.record import judge_values
from coordeval.records import FoundRecord, ParsedRollout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind

Drop = tuple[str, str | None, str | None, int | None]
"""Reason, detail, evidence and slot, as a FoundRecord holds them."""


class Findings:
    """Records and issues of one text, in the order in which they were written."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.records: list[FoundRecord] = []
        self.issues: Counter[str] = Counter()

    def drop(
        self,
        start: int,
        end: int,
        drop: Drop,
        *,
        desc: str | None = None,
        kind: GeometryKind | None = None,
        written: Sequence[int] | None = None,
    ) -> None:
        """Add a record that is dropped, with what could be read of it.

        `written` are its numbers in the dialect's own order of corners.
        """
        values = None
        if written is not None:
            kind = kind or "bbox_2d"
            values = in_order(tuple(written), kind, self.dialect)
        self.records.append(FoundRecord(start, end, desc, kind, values, *drop))
        if drop[0] == reasons.TRUNCATED_RECORD:
            self.issues["truncated"] = 1

    def add(
        self, start: int, end: int, desc: str | None, kind: GeometryKind, written: Sequence[int]
    ) -> None:
        """Add a record whose geometry is a plain list of numbers; it is judged here.

        `written` are the numbers in the dialect's own order of corners.
        """
        values = tuple(written)
        drop = judge_desc(desc) or judge_written(values, kind, self.dialect)
        if drop is None:
            ordered = in_order(values, kind, self.dialect)
            self.records.append(FoundRecord(start, end, desc, kind, ordered))
        else:
            self.drop(start, end, drop, desc=desc, kind=kind, written=values)

    def result(self) -> ParsedRollout:
        """Everything found; issues that did not occur are left out."""
        objects = [record for record in self.records if record.reason is None]
        if len(objects) == len(self.records):
            objects = self.records
        issues = {name: count for name, count in self.issues.items() if count}
        return ParsedRollout(records=self.records, issues=issues, objects=objects)


def judge_desc(desc: str | None) -> Drop | None:
    """Why a record without a name is dropped; None for one that has a name."""
    if desc is None:
        return reasons.MISSING_DESC, "absent", None, None
    return None if desc.strip() else (reasons.MISSING_DESC, "blank", None, None)


def judge_written(values: tuple[int, ...], kind: GeometryKind, dialect: Dialect) -> Drop | None:
    """Arity, range and degeneracy of numbers in the dialect's order; slots count as written."""
    largest = dialect.largest
    # The range is that of the numbers as written: a corner plus a side may lie beyond the grid.
    if largest is not None and _right_count(values, kind) and max(values) > largest:
        slot = next(i for i, value in enumerate(values) if value > largest)
        written = number_text(values[slot], dialect.decimals)
        return reasons.COORD_OUT_OF_RANGE, None, written, slot
    return judge_values(in_order(values, kind, dialect), kind, in_bins=False)


def number_text(value: int, decimals: int) -> str:
    """A kept value as the dialect writes it; `decimals` says how many of its digits are behind."""
    if not decimals:
        return str(value)
    whole, fraction = divmod(value, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}".rstrip("0").rstrip(".")


def _right_count(values: tuple[int, ...], kind: GeometryKind) -> bool:
    if kind == "bbox_2d":
        return len(values) == 4
    return len(values) >= (6 if kind == "poly" else 4) and len(values) % 2 == 0


def in_order(values: tuple[int, ...], kind: GeometryKind, dialect: Dialect) -> tuple[int, ...]:
    """Numbers as written to x1, y1, x2, y2 (points: x, y); a list of another length stays."""
    if dialect.corners == "yxyx" and len(values) % 2 == 0:
        return tuple(
            value for pair in zip(values[1::2], values[::2], strict=True) for value in pair
        )
    if dialect.corners == "xywh" and kind == "bbox_2d" and len(values) == 4:
        x, y, width, height = values
        return x, y, x + width, y + height
    return values


def whole_number(digits: str) -> int:
    """A written number; one of ten digits or more is stored as the largest that is kept."""
    return int(digits) if len(digits) < 10 else MAX_VALUE


__all__ = [
    "Drop",
    "Findings",
    "in_order",
    "judge_desc",
    "judge_written",
    "number_text",
    "whole_number",
]
