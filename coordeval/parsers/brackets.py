"""What stands between `[` and `]` of a geometry: its extent, its coordinates, what is foreign."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from coordeval.coords import NUM_BINS
from coordeval.parsers.lexer import KEY_AHEAD, RECORD_KEY, RECORD_START, TruncatedText, skip_spaces

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Coordinates

_W = r"[ \t\n\r]*+"
_STEP = re.compile(r'[\[\]{}"]')
_PLAIN_STRING = re.compile(r'"[^"{}\n]*+"(?=[ \t\n\r]*+[,\]\[}])')
_INNER_MAP = re.compile(r"\{[^{}\[\]]*+\}(?=[ \t\n\r]*+(?:[,\]]|\Z))")
# A map with lists or maps inside, as long as none of its keys is a record's: that one is a record.
_DEEP_MAP = re.compile(
    rf"\{{(?:(?!{RECORD_KEY.pattern})[^{{}}\[\]]|\[[^{{}}\[\]]*+\]|\{{[^{{}}\[\]]*+\}})*+\}}"
    r"(?=[ \t\n\r]*+(?:[,\]]|\Z))"
)
_RECORD_ENDS_HERE = re.compile(
    r'\}[ \t\n\r]*+(?:,[ \t\n\r]*+(?:\{|"[^"\\]{1,40}+"[ \t\n\r]*+:[ \t\n\r]*+\{)|\{)'
)
_LIST_ENDS_HERE = re.compile(r"\}[ \t\n\r]*+(?:\]|\Z|<\||```|\}[ \t\n\r]*+(?:\Z|<\||```))")
_TOKEN_ENDS = {"token": ("<|coord_", "|>"), "quoted_token": ('"<|coord_', '|>"')}
_NUM_PIXELS = 4096
_DIGITS = re.compile(r"[0-9]++")
INSIDE = r'[^"\[\]{}]*+(?:"[^"\[\]{}\n]*+"(?=[ \t\n\r]*+[,\]])[^"\[\]{}]*+)*+'
"""Inside of a list that ends at the first `]`: no brackets, strings only as whole elements."""
_SIMPLE_LIST = re.compile(rf"\[{INSIDE}\]")
MAX_VALUE = 10**9
"""Larger written numbers are stored as this one; they are out of range in any dialect of bins."""


_OTHER = 5
"""The group of foreign pieces."""


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
    number = r"(0|[1-9][0-9]*+)"
    if coordinates == "token":
        return r"<\|coord_" + number + r"\|>"
    if coordinates == "quoted_token":
        return r'"<\|coord_' + number + r'\|>"'
    return number


class _Patterns(NamedTuple):
    """What reads the inside of a list: wholly canonical, with its own spaces, piece by piece."""

    canonical: re.Pattern[str]
    spaced: re.Pattern[str]
    pieces: re.Pattern[str]
    """Groups: a coordinate, its digits, a comma, something nested, anything else."""


@lru_cache(maxsize=8)
def _patterns(coordinates: Coordinates) -> _Patterns:
    one = coordinate_pattern(coordinates)
    plain = one.replace("(0|", "(?:0|")
    if coordinates in ("bin_int", "pixel_int"):
        one += r"(?=[ \t\n\r,\[\]]|\Z)"
        other = r'"[^"]*+"|[^,\[\]\s]++'
    elif coordinates == "token":
        other = rf'"[^"]*+"|(?:(?!{plain})[^,\[\]\s])++'
    else:
        other = r'"[^"]*+"|[^,\[\]\s"]++|"'
    nest = r"[\[\]]|\{[^{}\[\]]*+\}"
    return _Patterns(
        canonical=re.compile(f"{plain}(?:, {plain})*+"),
        spaced=re.compile(f"{_W}{plain}(?:{_W},{_W}{plain})*+{_W}"),
        pieces=re.compile(f"({one})|(,)|({nest})|({other})"),
    )


@lru_cache(maxsize=8)
def written_values(coordinates: Coordinates) -> dict[str, int]:
    """Coordinate as written -> its value, for all bins; for pixels the usual ones, 0 to 4095."""
    opening, closing = _TOKEN_ENDS.get(coordinates, ("", ""))
    count = _NUM_PIXELS if coordinates == "pixel_int" else NUM_BINS
    return {f"{opening}{value}{closing}": value for value in range(count)}


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
            if inner := _INNER_MAP.match(text, at) or _DEEP_MAP.match(text, at):
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


def read_numbers(inside: str) -> tuple[int, ...]:
    """The numbers of a list that is known to hold nothing but coordinates."""
    written = _DIGITS.findall(inside)
    try:
        values = tuple(map(int, written))
    except ValueError:  # more digits than Python converts
        return tuple(map(_number, written))
    return values if max(values) < MAX_VALUE else tuple(map(_number, written))


def read_closed_list(text: str, start: int, end: int, coordinates: Coordinates) -> Contents:
    """Read the inside of a list, `text[start:end]`, that its first `]` closes.

    Strings in it are whole elements, as in INSIDE.
    """
    inside = text[start:end]
    elements = inside.split(", ")
    values = tuple(map(written_values(coordinates).get, elements))
    if None not in values:
        return Contents(values)  # type: ignore[arg-type]
    patterns = _patterns(coordinates)
    if patterns.canonical.fullmatch(inside):
        return Contents(read_numbers(inside))
    slot = values.index(None)
    word = elements[slot]
    piece = patterns.pieces.fullmatch(word)
    if piece is not None and piece.lastindex == _OTHER and word.count('"') in (0, 2):
        return Contents(None, "foreign_token", word, slot)  # what follows can't change that
    if patterns.spaced.fullmatch(inside):
        return Contents(read_numbers(inside), spacing=True)
    return read_contents(text, Extent(start, end, end + 1, closed=True), coordinates)


def read_contents(text: str, extent: Extent, coordinates: Coordinates) -> Contents:
    """Read the inside of a list. Details in the order: foreign_token, nested, separator.

    A foreign token ends the reading, as nothing behind it can change what is said.
    """
    inside = text[extent.start : extent.end]
    pieces = _patterns(coordinates).pieces.findall(inside)
    values: list[int] = []
    nested = separator = element_before = comma_before = False
    for _, digits, comma, nest, other in pieces:
        if other:
            return Contents(None, "foreign_token", other, len(values))
        if comma:
            separator |= not element_before
            element_before, comma_before = False, True
        elif nest:
            nested = True
        else:
            separator |= element_before
            values.append(_number(digits))
            element_before, comma_before = True, False
    if nested:
        return Contents(tuple(values), "nested")
    if separator or not extent.closed or (comma_before and not values):
        return Contents(tuple(values), "separator")
    canonical = ", ".join([piece[0] for piece in pieces if piece[0]])
    spacing = inside.rstrip() != canonical + "," if comma_before else inside != canonical
    return Contents(tuple(values), trailing_comma=comma_before, spacing=spacing)


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MAX_VALUE


def read_list(text: str, opening: int, coordinates: Coordinates) -> tuple[Contents, int]:
    """The list that opens at `opening`: contents, and the position after it.

    Raises TruncatedText where the text ends inside the list.
    """
    simple = _SIMPLE_LIST.match(text, opening)
    if simple is not None:
        end = simple.end()
        return read_closed_list(text, opening + 1, end - 1, coordinates), end
    return read_list_slowly(text, opening, coordinates)


def read_list_slowly(text: str, opening: int, coordinates: Coordinates) -> tuple[Contents, int]:
    """The same without the shortcut for lists that the first `]` closes."""
    extent = find_extent(text, opening)
    contents = read_contents(text, extent, coordinates)
    return contents, extent.after if extent.closed else skip_spaces(text, extent.after)


__all__ = [
    "INSIDE",
    "MAX_VALUE",
    "Contents",
    "Extent",
    "coordinate_pattern",
    "find_extent",
    "read_closed_list",
    "read_list",
    "read_list_slowly",
    "written_values",
]
