"""The fast path: a text that is exactly canonical boxes, read by one compiled pattern.

It answers only where the careful path would find valid or degenerate boxes and nothing else to
say; otherwise it declines, and the careful path reads the text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from coordeval.parsers.brackets import coordinate_pattern
from coordeval.parsers.reasons import DEGENERATE_BOX
from coordeval.records import FoundRecord, ParsedRollout

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Coordinates, Dialect

_HEAD = '{"objects": ['
_TAIL = "]}"
_BIN_OF = {str(value): value for value in range(1000)}
_new_record = tuple.__new__


@lru_cache(maxsize=16)
def _pattern(coordinates: Coordinates, *, geometry_first: bool) -> tuple[re.Pattern[str], int]:
    """The pattern of one record with its separator, and its length beside desc and digits."""
    one = coordinate_pattern(coordinates)
    number = "(0|[1-9]\\d*+)"
    assert number in one
    one = one.replace(number, "(\\d{1,3}+)")
    desc = r'"desc": "([^"\\\x00-\x1f]*+)"'
    box = r'"bbox_2d": \[' + ", ".join([one] * 4) + r"\]"
    body = rf"{box}, {desc}" if geometry_first else rf"{desc}, {box}"
    frame = {"token": "<|coord_|>", "quoted_token": '"<|coord_|>"'}.get(coordinates, "")
    fixed = len('{"desc": "", "bbox_2d": [, , , ]}') + 4 * len(frame)
    return re.compile(r"\{" + body + r"\}(?:, (?=\{)|\]\}\Z)"), fixed


def parse_fast(text: str, dialect: Dialect) -> ParsedRollout | None:
    """Read a canonical text of boxes; None where the careful path has to."""
    if not text.startswith(_HEAD) or not text.endswith(_TAIL) or dialect.container != "list":
        return None
    size = len(text)
    if size == len(_HEAD) + len(_TAIL):
        return ParsedRollout(records=[], issues={}, objects=[])
    geometry_first = text.startswith('{"bbox_2d"', len(_HEAD))
    if dialect.enforce_field_order and geometry_first != (dialect.field_order == "geometry_first"):
        return None
    pattern, fixed = _pattern(dialect.coordinates, geometry_first=geometry_first)
    rows = pattern.findall(text, len(_HEAD))
    records: list[FoundRecord] = []
    append = records.append
    start = len(_HEAD)
    dropped = False
    try:
        for row in rows:
            if geometry_first:
                a, b, c, d, desc = row
            else:
                desc, a, b, c, d = row
            x1, y1, x2, y2 = _BIN_OF[a], _BIN_OF[b], _BIN_OF[c], _BIN_OF[d]
            end = start + fixed + len(desc) + len(a) + len(b) + len(c) + len(d)
            fields = (start, end, desc, "bbox_2d", (x1, y1, x2, y2))
            if x2 > x1 and y2 > y1:
                append(_new_record(FoundRecord, (*fields, None, None, None, None)))
            else:
                dropped = True
                append(FoundRecord(*fields, DEGENERATE_BOX, "empty_box"))  # type: ignore[arg-type]
            start = end + 2
    except KeyError:  # a leading zero
        return None
    # Matches do not overlap, so they cover the text without a gap exactly if the lengths add up.
    if start != size or not _descriptions_plain(text, rows, geometry_first=geometry_first):
        return None
    objects = [record for record in records if record[5] is None] if dropped else records
    return ParsedRollout(records=records, issues={}, objects=objects)


def _descriptions_plain(text: str, rows: list[tuple[str, ...]], *, geometry_first: bool) -> bool:
    """True where no description is blank, holds a coordinate token, or is not valid Unicode."""
    column = 4 if geometry_first else 0
    distinct = {row[column] for row in rows}
    if not all(desc.strip() for desc in distinct) or any("<|coord_" in desc for desc in distinct):
        return False
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for desc in distinct for c in desc)


__all__ = ["parse_fast"]
