"""Where coordinates are expected in a written answer, down to the token that was written there.

The lists are those of the parser's found records, read element by element as the parser reads
them, so that `slot` means the same as in `FoundRecord.slot`. Broken and cut text has its places
too: what stands there instead of a coordinate is where control was lost.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers import parse
from coordeval.parsers.brackets import coordinate_pattern, find_extent
from coordeval.parsers.lexer import TruncatedText
from coordeval.records import GEOMETRY_KINDS, GeometryKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Coordinates, Dialect

_W = r"[ \t\n\r]*+"
_LIST_OPENS = re.compile(rf'"({"|".join(GEOMETRY_KINDS)})"{_W}:{_W}\[')
_LEAST_SLOTS: dict[GeometryKind, int] = {"bbox_2d": 4, "poly": 6, "line": 4}


class SlotPlace(NamedTuple):
    """One place where a coordinate is expected.

    `token` is the index of the token that stands there (of its first one, where something foreign
    does), `record` that of the found record, `slot` how many elements stand before it in its list.
    `written_bin` is None where the token is no coordinate token.
    """

    token: int
    record: int
    slot: int
    kind: GeometryKind
    written_id: int
    written_bin: int | None


def find_slots(token_ids: Sequence[int], table: TokenTable, dialect: Dialect) -> list[SlotPlace]:
    """All coordinate places of an answer, in the order of its tokens.

    A place is every coordinate in the list of a `bbox_2d`, `poly` or `line`, and whatever else
    stands where a coordinate should: one place for a run of it up to the next separator, and one
    for a `]`, a key or the end token that comes too early. `token_ids` may end with an end token.
    Where a foreign piece begins inside a token, that token counts. No records, an empty answer and
    dialects of integers have no places; linear in the length of the text.
    """
    if dialect.coordinates not in {"token", "quoted_token"}:
        return []
    ended = bool(token_ids) and token_ids[-1] in table.end_ids
    answer = token_ids[:-1] if ended else token_ids
    written = _WrittenText(answer, table)
    places: list[SlotPlace] = []
    for record, kind, inside in _lists(written.text, dialect):
        last_token = -1
        for char, slot in _elements(written.text, inside, kind, dialect.coordinates):
            if char < len(written.text):
                token = written.token_at(char)
            elif ended:
                token = len(answer)
            else:
                continue  # cut by the token limit: nothing was written there
            if token != last_token:
                token_id = int(token_ids[token])
                places.append(
                    SlotPlace(token, record, slot, kind, token_id, table.bin_of(token_id))
                )
            last_token = token
    return places


class _WrittenText:
    """The text of token ids, and which token holds which character.

    Bytes that are no UTF-8 become one lone surrogate each, so that every character has its bytes.
    """

    def __init__(self, token_ids: Sequence[int], table: TokenTable) -> None:
        pieces = [table.text_bytes(int(token_id)) for token_id in token_ids]
        self.text = b"".join(pieces).decode("utf-8", "surrogateescape")
        self._token_starts = list(accumulate(map(len, pieces), initial=0))[:-1]
        self._byte_of_char: list[int] | None = None
        if not self.text.isascii():
            lengths = (len(char.encode("utf-8", "surrogateescape")) for char in self.text)
            self._byte_of_char = list(accumulate(lengths, initial=0))

    def token_at(self, char: int) -> int:
        """Index of the token that holds the first byte of a character."""
        byte = char if self._byte_of_char is None else self._byte_of_char[char]
        # Tokens without text start where the next one does; the last of them has the byte.
        return bisect_right(self._token_starts, byte) - 1


class _Inside(NamedTuple):
    """The inside of a list, `text[start:end]`."""

    start: int
    end: int


def _lists(text: str, dialect: Dialect) -> Iterator[tuple[int, GeometryKind, _Inside]]:
    """(index of the found record, geometry, inside) of every geometry list, in text order."""
    records = parse(text, dialect).records
    by_start = sorted(range(len(records)), key=lambda index: records[index].start)
    starts = [records[index].start for index in by_start]
    place = 0
    while match := _LIST_OPENS.search(text, place):
        place = match.end()
        position = bisect_right(starts, match.start()) - 1
        if position < 0:
            continue
        index = by_start[position]
        if match.start() >= records[index].end:
            continue
        opening = match.end() - 1
        try:
            end = find_extent(text, opening).end
        except TruncatedText:
            end = len(text)
        end = min(end, records[index].end)
        kind: GeometryKind = match.group(1)  # type: ignore[assignment]
        yield index, kind, _Inside(opening + 1, end)
        place = max(place, end)


@lru_cache(maxsize=2)
def _pieces(coordinates: Coordinates) -> re.Pattern[str]:
    """Elements and punctuation of a list, cut as the parser cuts them."""
    one = coordinate_pattern(coordinates).replace("(0|", "(?:0|")
    if coordinates == "token":
        other = rf'"[^"]*+"|(?:(?!{one})[^,\[\]\s])++'
    else:
        other = r'"[^"]*+"|[^,\[\]\s"]++|"'
    nest = r"[\[\]]|\{[^{}\[\]]*+\}"
    return re.compile(rf"(?P<coord>{one})|(?P<comma>,)|(?P<nest>{nest})|(?P<other>{other})")


def _elements(
    text: str, inside: _Inside, kind: GeometryKind, coordinates: Coordinates
) -> Iterator[tuple[int, int]]:
    """(character, slot) of every place in one list; the character may be the end of the text."""
    slot = 0
    expecting, in_run = True, False
    for match in _pieces(coordinates).finditer(text, inside.start, inside.end):
        what, at = match.lastgroup, match.start()
        if what in {"coord", "other"}:
            if what == "coord" or not in_run:
                # The place of a quoted coordinate is behind its quote.
                behind = coordinates == "quoted_token" and text[at] == '"'
                yield at + behind, slot
                slot += 1
            expecting, in_run = False, what == "other"
            continue
        if expecting and not in_run:
            yield at, slot
        in_run = what == "nest" and (expecting or in_run)
        expecting = what == "comma" or expecting
    complete = slot == 4 if kind == "bbox_2d" else slot >= _LEAST_SLOTS[kind] and slot % 2 == 0
    if expecting and not in_run and not complete:
        yield inside.end, slot


__all__ = ["SlotPlace", "find_slots"]
