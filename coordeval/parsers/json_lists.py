"""Geometry lists of a JSON dialect: plain numbers, with a fraction where the dialect has one."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.brackets import MAX_VALUE, find_extent
from coordeval.parsers.findings import whole_number
from coordeval.parsers.lexer import skip_spaces

if TYPE_CHECKING:
    from coordeval.parsers.brackets import Extent
    from coordeval.records import GeometryKind

_NUMBER = re.compile(r"(0|[1-9]\d*+)(?:\.(\d++))?+", re.ASCII)
_SCIENTIFIC = re.compile(r"(?:0|[1-9]\d{0,39})(?:\.\d{1,40})?[eE][+-]?\d{1,2}", re.ASCII)
_INNER = re.compile(r"\[([^\[\]]*+)\]")
_OUTSIDE = re.compile(r"[\s,]*+")


class ListRead(NamedTuple):
    """One list of numbers, with its place in the text: the whole box, or one of several.

    `values` is None where a foreign piece stands among them; `detail` is None for a plain list.
    """

    start: int
    end: int
    values: tuple[int, ...] | None
    detail: str | None = None
    evidence: str | None = None
    slot: int | None = None


class Lists(NamedTuple):
    """What stands between `[` and `]`: one list, or several inside; and where reading goes on."""

    lists: tuple[ListRead, ...]
    after: int
    trailing_comma: bool = False


def read_lists(
    text: str,
    opening: int,
    *,
    kind: GeometryKind,
    several: bool,
    decimals: int,
    record_start: re.Pattern[str],
) -> Lists:
    """Read the geometry that opens at `opening`; `record_start` is how the next record begins.

    A list of lists is several geometries where the dialect says so; in a polygon or line it may be
    the points, two numbers each. Raises TruncatedText where the text ends inside.
    """
    extent = find_extent(text, opening, record_start)
    after = extent.after if extent.closed else skip_spaces(text, extent.after)
    inside = text[extent.start : extent.end]
    if "[" not in inside and "{" not in inside:
        read, trailing = _flat(text, opening, extent.start, extent.end, extent, decimals)
        return Lists((read,), after, trailing)
    inner = list(_INNER.finditer(text, extent.start, extent.end))
    if not extent.closed or not inner or not _only_lists(text, extent, inner):
        nested = _flat(text, opening, extent.start, extent.end, extent, decimals)[0]
        if nested.detail != "foreign_token":
            nested = ListRead(opening, after, None, "nested")
        return Lists((nested,), after)
    parts = [
        _flat(text, match.start(), match.start(1), match.end(1), extent, decimals)
        for match in inner
    ]
    trailing = any(comma for _, comma in parts) or text[inner[-1].end() : extent.end].strip() == ","
    lists = tuple(read._replace(end=m.end()) for (read, _), m in zip(parts, inner, strict=True))
    is_points = all(read.values is not None and len(read.values) == 2 for read in lists)
    if kind != "bbox_2d" and is_points and all(read.detail is None for read in lists):
        points = tuple(value for read in lists for value in read.values or ())
        return Lists((ListRead(opening, after, points),), after, trailing)
    if several:
        return Lists(lists, after, trailing)
    return Lists((ListRead(opening, after, None, "nested"),), after, trailing)


def _only_lists(text: str, extent: Extent, inner: list[re.Match[str]]) -> bool:
    """True where nothing but commas and spaces stands around the inner lists."""
    place = extent.start
    for number, match in enumerate(inner):
        between = text[place : match.start()]
        if not _OUTSIDE.fullmatch(between) or between.count(",") != (number > 0):
            return False
        place = match.end()
    rest = text[place : extent.end]
    return _OUTSIDE.fullmatch(rest) is not None and rest.count(",") <= 1


def _flat(
    text: str, opening: int, start: int, end: int, extent: Extent, decimals: int
) -> tuple[ListRead, bool]:
    """Read `text[start:end]` as numbers between commas; the second result: a trailing comma."""
    pieces = text[start:end].split(",")
    trailing = len(pieces) > 1 and not pieces[-1].strip()
    if trailing:
        pieces.pop()
    if len(pieces) == 1 and not pieces[0].strip():
        detail = "separator" if trailing or not extent.closed else None
        return ListRead(opening, extent.after, (), detail), False
    values: list[int] = []
    separator = not extent.closed
    slot = 0
    for piece in pieces:
        words = piece.split()
        separator |= len(words) != 1
        for word in words:
            value = _value(word, decimals)
            if value is None:
                read = ListRead(opening, extent.after, None, "foreign_token", word, slot)
                return read, trailing
            values.append(value)
            slot += 1
    detail = "separator" if separator else None
    read = ListRead(opening, extent.after, tuple(values), detail)
    return read, trailing and detail is None


def _value(word: str, decimals: int) -> int | None:
    """The number in multiples of 10 ** -decimals, rounded half up; None where it is none.

    The digits behind the point that are one too many are rounded once, by the first of them.
    """
    match = _NUMBER.fullmatch(word)
    if match is None and decimals and _SCIENTIFIC.fullmatch(word):  # as Python writes 0.00005
        match = _NUMBER.fullmatch(f"{Decimal(word):f}")
    if match is None:
        return None
    fraction, scale = match[2], int(10**decimals)
    if fraction is None:
        return min(whole_number(match[1]), MAX_VALUE) * scale
    if not decimals:
        return None
    digits = fraction[: decimals + 1].ljust(decimals + 1, "0")
    rounded = (int(digits) + 5) // 10
    return min(whole_number(match[1]) * scale + rounded, MAX_VALUE * scale)


__all__ = ["ListRead", "Lists", "read_lists"]
