"""The fast path: a text that is canonical throughout, read by one compiled pattern.

It answers only where the careful path would find canonical records and nothing else to say;
otherwise it declines, and the careful path reads the text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from coordeval.parsers.brackets import coordinate_pattern
from coordeval.parsers.lexer import LONE_SURROGATE
from coordeval.parsers.reasons import DEGENERATE_BOX
from coordeval.parsers.record import judge_values
from coordeval.records import FoundRecord, ParsedRollout

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Coordinates, Dialect

_HEAD = '{"objects": ['
_TAIL = "]}"
_BIN_OF = {str(value): value for value in range(1000)}
_EMPTY_BOX = (DEGENERATE_BOX, "empty_box", None, None)
_TOKEN_ENDS = {"token": ("<|coord_", "|>"), "quoted_token": ('"<|coord_', '|>"')}
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
    around = "".join(_TOKEN_ENDS.get(coordinates, ("", "")))
    fixed = len('{"desc": "", "bbox_2d": [, , , ]}') + 4 * len(around)
    return re.compile(r"\{" + body + r"\}(?:, (?=\{)|\]\}\Z)"), fixed


def parse_fast(text: str, dialect: Dialect) -> ParsedRollout | None:
    """Read a canonical text; None where the careful path has to."""
    if not text.startswith(_HEAD) or not text.endswith(_TAIL) or dialect.container != "list":
        return None
    if len(text) == len(_HEAD) + len(_TAIL):
        return ParsedRollout(records=[], issues={}, objects=[])
    geometry_first = not text.startswith('{"desc"', len(_HEAD))
    if dialect.enforce_field_order and geometry_first != (dialect.field_order == "geometry_first"):
        return None
    only_boxes = '"poly": [' not in text and '"line": [' not in text
    read = _read_boxes if only_boxes else _read_mixed
    records = read(text, dialect.coordinates, geometry_first=geometry_first)
    if records is None or not _descriptions_plain(text, {record[2] for record in records}):
        return None
    objects = [record for record in records if record[5] is None]
    return ParsedRollout(
        records=records, issues={}, objects=records if len(objects) == len(records) else objects
    )


def _read_boxes(
    text: str, coordinates: Coordinates, *, geometry_first: bool
) -> list[FoundRecord] | None:
    """Records of a text of boxes; None where matches do not cover it without a gap."""
    pattern, fixed = _pattern(coordinates, geometry_first=geometry_first)
    records: list[FoundRecord] = []
    append = records.append
    start = len(_HEAD)
    try:
        for row in pattern.findall(text, start):
            if geometry_first:
                a, b, c, d, desc = row
            else:
                desc, a, b, c, d = row
            x1, y1, x2, y2 = _BIN_OF[a], _BIN_OF[b], _BIN_OF[c], _BIN_OF[d]
            end = start + fixed + len("".join(row))
            values = (x1, y1, x2, y2)
            if x2 > x1 and y2 > y1:
                fields: tuple[object, ...] = (
                    start,
                    end,
                    desc,
                    "bbox_2d",
                    values,
                    None,
                    None,
                    None,
                    None,
                )
            else:
                fields = (start, end, desc, "bbox_2d", values, *_EMPTY_BOX)
            append(_new_record(FoundRecord, fields))
            start = end + 2
    except KeyError:  # a leading zero
        return None
    # Matches do not overlap, so they cover the text without a gap exactly if the lengths add up.
    return records if start == len(text) else None


@lru_cache(maxsize=16)
def _mixed_pattern(coordinates: Coordinates, *, geometry_first: bool) -> re.Pattern[str]:
    desc = r'"desc": "([^"\\\x00-\x1f]*+)"'
    opening, closing = (re.escape(end) for end in _TOKEN_ENDS.get(coordinates, ("", "")))
    inside = r"[^\[\]]*" if coordinates == "quoted_token" else r'[^\[\]"]*'
    geometry = rf'"(bbox_2d|poly|line)": \[{opening}({inside}){closing}\]'
    body = rf"{geometry}, {desc}" if geometry_first else rf"{desc}, {geometry}"
    return re.compile(r"\{" + body + r"\}(?:, (?=\{)|\]\}\Z)")


def _read_mixed(
    text: str, coordinates: Coordinates, *, geometry_first: bool
) -> list[FoundRecord] | None:
    """Records of a text of boxes, polygons and lines; None where it is not canonical."""
    opening, closing = _TOKEN_ENDS.get(coordinates, ("", ""))
    between = f"{closing}, {opening}"
    bin_of = _BIN_OF.__getitem__  # which takes only 0..999, so that the range needs no judging
    fixed = len('{"desc": "", "": []}') + len(opening) + len(closing)
    records: list[FoundRecord] = []
    append = records.append
    start = len(_HEAD)
    pattern = _mixed_pattern(coordinates, geometry_first=geometry_first)
    try:
        for row in pattern.findall(text, start):
            if geometry_first:
                kind, inside, desc = row
            else:
                desc, kind, inside = row
            values = tuple(map(bin_of, inside.split(between)))
            end = start + fixed + len("".join(row))
            drop = judge_values(values, kind, in_bins=False)
            fields: tuple[object, ...] = (start, end, desc, kind, values, None, None, None, None)
            if drop is not None:
                fields = (*fields[:5], *drop)
            append(_new_record(FoundRecord, fields))
            start = end + 2
    except KeyError:  # not a plain number of a bin
        return None
    return records if start == len(text) else None


def _descriptions_plain(text: str, distinct: set[str | None]) -> bool:
    """True where no description is blank, holds a coordinate token, or is not valid Unicode."""
    for desc in distinct:
        if desc is None or not desc.strip() or "<|coord_" in desc:
            return False
    return text.isascii() or LONE_SURROGATE.search(text) is None


__all__ = ["parse_fast"]
