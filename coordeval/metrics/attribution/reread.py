"""A lenient second look at one dropped record: its first name and its geometry lists.

Only the repair table reads this way. Scoring never does: there a record is what the strict parser
says it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from coordeval.records import GEOMETRY_KINDS, GeometryKind

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Coordinates

_KEYS: dict[str, GeometryKind | None] = {"desc": None, **{kind: kind for kind in GEOMETRY_KINDS}}
_W = r"[ \t\n\r]*+"
_STEP = re.compile(r'"(?P<string>(?:[^"\\]|\\.)*+)"|(?P<open>\[)', re.DOTALL)
_COLON = re.compile(_W + ":?+" + _W)
_REST_OF_KEY = re.compile(r'(?:desc|bbox_2d|poly|line)"' + _W + ":")
_NEXT_KEY = re.compile(r'[,\s]*+"' + _REST_OF_KEY.pattern)
_TOKEN = re.compile(r"<\|coord_0*+(\d{1,9})\|>|<\|coord_(0)0*+\|>")
_NUMBER = re.compile(r"(?<![\w.+-])(\d{1,9})(?=[ \t\n\r,\[\]])()")
_BRACKET = re.compile(r"[\[\]]")


class RereadList(NamedTuple):
    """One geometry list: the kind that its key stands for, and the coordinates inside."""

    kind: GeometryKind
    values: tuple[int, ...]


class Reread(NamedTuple):
    """What a lenient eye sees in a record: the first description, and geometry lists in order."""

    desc: str | None
    lists: tuple[RereadList, ...]


def reread(text: str, coordinates: Coordinates) -> Reread:
    """Read the text of one record; None or empty where a part is not there.

    In the token dialects every coordinate token inside a list counts, quoted or padded with zeros
    as it may be, and nothing else does. In the integer dialects whole numbers count, save a last
    one that the end of the text may have cut. Linear in the length of the text.
    """
    desc: str | None = None
    lists: list[RereadList] = []
    key: str | None = None
    place = 0
    while match := _STEP.search(text, place):
        place = match.end()
        string = match["string"]
        if string is None:
            kind = _KEYS.get(key) if key is not None else None
            end, whole = _list_end(text, place)
            if kind is not None:
                lists.append(RereadList(kind, _values(text[place:end], coordinates, whole=whole)))
            key, place = None, end
        elif key == "desc":
            swallowed = _REST_OF_KEY.match(text, place)
            if desc is None:
                desc = string.rstrip(", \t\n\r") if swallowed else _decoded(string)
            # Where the closing quote is missing, the quote found is the one that opens a key.
            key, place = None, place - 1 if swallowed else place
        else:
            key = string if key is None or string in _KEYS else None
            colon = _COLON.match(text, place)
            place = colon.end() if colon else place
    return Reread(desc, tuple(lists))


def _decoded(string: str) -> str:
    try:
        return str(json.loads(f'"{string}"', strict=False))
    except ValueError:
        return string


def _list_end(text: str, start: int) -> tuple[int, bool]:
    """End of the inside of the list that opens before `start`, and if its last element is whole."""
    stop = _NEXT_KEY.search(text, start)
    limit = stop.start() if stop else len(text)
    depth = 0
    for match in _BRACKET.finditer(text, start, limit):
        if match.group() == "[":
            depth += 1
        elif depth == 0:
            return match.start(), True
        else:
            depth -= 1
    return limit, stop is not None


def _values(inside: str, coordinates: Coordinates, *, whole: bool) -> tuple[int, ...]:
    in_numbers = coordinates in ("bin_int", "pixel_int")
    found = (_NUMBER if in_numbers else _TOKEN).findall(inside + "]" if whole else inside)
    return tuple(int(first or second) for first, second in found)


__all__ = ["Reread", "RereadList", "reread"]
