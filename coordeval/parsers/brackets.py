"""What stands between `[` and `]` of a geometry: its extent, its coordinates, what is foreign."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.lexer import KEY_AHEAD, RECORD_START, TruncatedText, skip_spaces

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Coordinates

_STEP = re.compile(r'[\[\]{}"]')
_PLAIN_STRING = re.compile(r'"[^"{}\n]*+"(?=[ \t\n\r]*+[,\]\[}])')
_INNER_MAP = re.compile(r"\{[^{}\[\]]*+\}(?=[ \t\n\r]*+[,\]])")
_RECORD_ENDS_HERE = re.compile(
    r'\}[ \t\n\r]*+(?:,[ \t\n\r]*+(?:\{|"[^"\\]{1,40}+"[ \t\n\r]*+:[ \t\n\r]*+\{)|\{)'
)
_LIST_ENDS_HERE = re.compile(r"\}[ \t\n\r]*+(?:\]|\Z|<\||```|\}[ \t\n\r]*+(?:\Z|<\||```))")
_DIGITS = re.compile(r"\d++")
MAX_VALUE = 10**9
"""Larger written numbers are stored as this one; they are out of range in any dialect of bins."""


class Extent(NamedTuple):
    """Where a geometry list stands: `[start:end]` is the inside, `after` what comes next."""

    start: int
    end: int
    after: int
    closed: bool


class Contents(NamedTuple):
    """What a geometry list holds.

    `values` are its coordinates in order (None where a foreign token stands among them).
    `detail` is None where the inside is a plain list of coordinates (its arity not yet judged).
    """

    values: tuple[int, ...] | None
    detail: str | None = None
    evidence: str | None = None
    slot: int | None = None
    trailing_comma: bool = False
    spacing: bool = False


@lru_cache(maxsize=8)
def coordinate_pattern(coordinates: Coordinates) -> str:
    """Regular expression of one well-formed coordinate; its group 1 is the number's digits."""
    number = r"(0|[1-9]\d*+)"
    if coordinates == "token":
        return r"<\|coord_" + number + r"\|>"
    if coordinates == "quoted_token":
        return r'"<\|coord_' + number + r'\|>"'
    return number


@lru_cache(maxsize=8)
def _plain_list(coordinates: Coordinates) -> re.Pattern[str]:
    one = coordinate_pattern(coordinates).replace("(0|", "(?:0|")
    return re.compile(rf"\[({one}(?:, {one})*+)\]")


@lru_cache(maxsize=8)
def _pieces(coordinates: Coordinates) -> re.Pattern[str]:
    one = coordinate_pattern(coordinates)
    if coordinates in ("bin_int", "pixel_int"):
        one += r"(?=[ \t\n\r,\[\]]|\Z)"
        other = r'"[^"]*+"|[^,\[\]\s]++'
    elif coordinates == "token":
        other = r'"[^"]*+"|(?:(?!' + one.replace("(0|", "(?:0|") + r")[^,\[\]\s])++"
    else:
        other = r'"[^"]*+"|[^,\[\]\s"]++|"'
    return re.compile(
        rf"(?P<coord>{one})|(?P<comma>,)|(?P<nest>[\[\]]|\{{[^{{}}\[\]]*+\}})|(?P<other>{other})"
    )


def find_extent(text: str, opening: int, record_start: re.Pattern[str] = RECORD_START) -> Extent:
    """Find the `]` of the list that opens at `opening`, or where the list must have ended without.

    A missing `]` shows by the next key, the next record (which begins with `record_start`) or the
    end of the record. Raises TruncatedText where the text ends inside the list.
    """
    depth = 0
    place = opening + 1
    while match := _STEP.search(text, place):
        at = match.start()
        place = match.end()
        character = match.group()
        if character == "[":
            depth += 1
        elif character == "]":
            if depth == 0:
                return Extent(opening + 1, at, place, closed=True)
            depth -= 1
        elif character == '"':
            if KEY_AHEAD.match(text, at) and not text.startswith('"<|coord_', at):
                return Extent(opening + 1, at, at, closed=False)
            if string := _PLAIN_STRING.match(text, at):
                place = string.end()
        elif character == "{":
            if record_start.match(text, at):
                return Extent(opening + 1, at, at, closed=False)
            if inner := _INNER_MAP.match(text, at):
                place = inner.end()
        elif _ends_record(text, at, opening):
            return Extent(opening + 1, at, at, closed=False)
    raise TruncatedText


def _ends_record(text: str, brace: int, opening: int) -> bool:
    if _RECORD_ENDS_HERE.match(text, brace):
        return True
    if not _LIST_ENDS_HERE.match(text, brace):
        return False
    before = brace - 1
    while before > opening and text[before] in " \t\n\r":
        before -= 1
    # After a comma a brace stands in the place of a coordinate: it is foreign, and `]` follows.
    return text[before] not in ",["


def read_plain(text: str, opening: int, coordinates: Coordinates) -> tuple[Contents, int] | None:
    """The canonical list at `opening` and the position after it; None where it is not canonical."""
    match = _plain_list(coordinates).match(text, opening)
    if match is None:
        return None
    return Contents(read_numbers(match.group(1))), match.end()


def read_numbers(inside: str) -> tuple[int, ...]:
    """The numbers of a list that is known to hold nothing but coordinates."""
    return tuple(map(_number, _DIGITS.findall(inside)))


def read_contents(text: str, extent: Extent, coordinates: Coordinates) -> Contents:
    """Read the inside of a list. Details in the order: foreign_token, nested, separator."""
    values: list[int] = []
    foreign: tuple[str, int] | None = None
    nested = separator = False
    slot = 0
    element_before = comma_before = False
    canonical_end = extent.start
    spacing = False
    for match in _pieces(coordinates).finditer(text, extent.start, extent.end):
        gap = text[canonical_end : match.start()]
        spacing |= gap != (" " if comma_before and match.lastgroup != "comma" else "")
        canonical_end = match.end()
        if match.lastgroup == "nest":
            nested = True
        elif match.lastgroup == "comma":
            separator |= not element_before
            element_before, comma_before = False, True
        else:
            separator |= element_before
            if match.lastgroup == "other":
                foreign = foreign or (match.group(), slot)
            else:
                values.append(_number(match.group("coord").strip('"<|>').removeprefix("coord_")))
            slot += 1
            element_before, comma_before = True, False
    trailing_comma = comma_before and bool(values) and not separator
    spacing |= canonical_end != extent.end and not trailing_comma
    if foreign is not None:
        return Contents(None, "foreign_token", foreign[0], foreign[1])
    if nested:
        return Contents(tuple(values), "nested")
    if separator or not extent.closed or (comma_before and not values):
        return Contents(tuple(values), "separator")
    return Contents(tuple(values), trailing_comma=trailing_comma, spacing=spacing)


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MAX_VALUE


def read_list(text: str, opening: int, coordinates: Coordinates) -> tuple[Contents, int, int]:
    """The list that opens at `opening`: contents, position after it, end of its inside.

    Raises TruncatedText where the text ends inside the list.
    """
    plain = read_plain(text, opening, coordinates)
    if plain is not None:
        return plain[0], plain[1], plain[1] - 1
    extent = find_extent(text, opening)
    contents = read_contents(text, extent, coordinates)
    return (
        contents,
        skip_spaces(text, extent.after) if not extent.closed else extent.after,
        extent.end,
    )


__all__ = [
    "MAX_VALUE",
    "Contents",
    "Extent",
    "coordinate_pattern",
    "find_extent",
    "read_list",
    "read_numbers",
]
