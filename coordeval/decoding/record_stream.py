"""Where records begin and end in a text that is still being written, byte piece by byte piece.

A record is what stands from a `{` to its `}`, strings honoured; the container around the records
is none. Broken text does not blind the reader: `{"desc"` and its like can't stand inside a JSON
string, nor inside a sound record, so it always begins a record, and the one before is handed to
the parser as far as it goes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from coordeval.data.names import normalise_desc
from coordeval.parsers.lexer import NestedBudget
from coordeval.parsers.reasons import TRUNCATED_RECORD
from coordeval.parsers.record import read_record

if TYPE_CHECKING:
    from collections.abc import Hashable

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind

_STRUCTURE = re.compile(rb'[{}"\\]')
_CONTAINER_HEAD = re.compile(rb'(?:"objects"\s*:\s*\[|"object_\d{1,9}"\s*:)\s*\Z')
_LONGEST_HEAD = 64
_OPENING, _QUOTE, _BACKSLASH = b'{"\\'
_CERTAIN_KEY = re.compile(r'\{\s*"(?:desc|bbox|poly|line)[^"\\]{0,24}"')
_LIKELY_KEY = re.compile(
    r'\{\s*"(?:desc|bbox|box|poly|line|point|quad|label|name|category)[^"\\]{0,24}"'
)
_NEXT_RECORD = '{"desc":'


class WrittenRecord(NamedTuple):
    """One complete record: `token` is the index of the token that wrote its `{`.

    `identity` is equal for equal records: the normalised description, the kind and the values
    where they can be read, else the text. `name` is None where they can't.
    """

    token: int
    text: str
    identity: Hashable
    name: str | None
    kind: GeometryKind | None
    values: tuple[int, ...] | None


class _Place(NamedTuple):
    """A byte of the text: piece and offset in `RecordStream.pieces`, and the token's index."""

    piece: int
    offset: int
    token: int


class RecordStream:
    """Pieces of UTF-8 text pushed one by one; hands out records as they are completed.

    `pieces` holds the token that completed the last record (at first nothing), then one piece per
    token since. Time per piece is linear in its bytes, and in a record's when it closes.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.pieces: list[bytes] = [b""]
        self._dialect = dialect
        self._token = -1
        self._opened: _Place | None = None
        self._depth = 0
        self._in_string = False
        self._escaped = False
        # The last `{` inside a record, while it may turn out to begin the next one.
        self._brace: _Place | None = None
        self._brace_in_string = False
        self._quotes = 0

    def push(self, piece: bytes) -> list[WrittenRecord]:
        """Append what one token writes; the records that it completes, mostly none."""
        self._token += 1
        self.pieces.append(piece)
        if self._escaped:
            if not piece:
                return []
        elif _STRUCTURE.search(piece) is None:
            return []
        return self._scan(piece)

    def _scan(self, piece: bytes) -> list[WrittenRecord]:
        done: list[WrittenRecord] = []
        place = int(self._escaped)
        self._escaped = False
        while match := _STRUCTURE.search(piece, place):
            at = match.start()
            place = at + 1
            character = piece[at]
            if self._opened is None:
                if character == _OPENING:
                    self._open(_Place(len(self.pieces) - 1, at, self._token))
            elif character == _BACKSLASH:
                if self._in_string:
                    place += 1
                    self._escaped = place > len(piece)
            elif character == _QUOTE:
                self._in_string = not self._in_string
                if self._brace is not None and self._next_record_begun(place):
                    done += self._give_up(self._brace)
            elif character == _OPENING:
                self._inner_brace(_Place(len(self.pieces) - 1, at, self._token))
            elif not self._in_string:
                self._depth -= 1
                if self._depth == 0:
                    done.append(self._close(place))
        return done

    def _open(self, place: _Place) -> None:
        self._opened = place
        self._depth = 1
        self._in_string = False
        self._brace = None

    def _inner_brace(self, place: _Place) -> None:
        """A `{` after another: the first record of a container, a nested value, a new record."""
        if not self._in_string:
            if _CONTAINER_HEAD.search(self._before(place)):
                self._open(place)
                return
            self._depth += 1
        self._brace, self._brace_in_string, self._quotes = place, self._in_string, 0

    def _before(self, place: _Place) -> bytes:
        """The bytes of the open record before `place`, as many as a container's head has."""
        assert self._opened is not None
        parts = [self.pieces[place.piece][max(place.offset - _LONGEST_HEAD, 0) : place.offset]]
        size, index = len(parts[0]), place.piece
        while size < _LONGEST_HEAD and index > self._opened.piece:
            index -= 1
            parts.append(self.pieces[index])
            size += len(parts[-1])
        return b"".join(reversed(parts))[-_LONGEST_HEAD:]

    def _next_record_begun(self, end: int) -> bool:
        """Whether the quote that ends before `end` makes the remembered brace a record's."""
        self._quotes += 1
        if self._quotes < 2:
            return False
        assert self._brace is not None
        key = _LIKELY_KEY if self._brace_in_string else _CERTAIN_KEY
        if key.match(self._text(self._brace, len(self.pieces) - 1, end)):
            return True
        self._brace = None
        return False

    def _text(self, start: _Place, piece: int, offset: int) -> str:
        """The text from `start` up to the `offset` in `piece`."""
        pieces = self.pieces
        if start.piece == piece:
            raw = pieces[piece][start.offset : offset]
        else:
            first, last = pieces[start.piece][start.offset :], pieces[piece][:offset]
            raw = b"".join((first, *pieces[start.piece + 1 : piece], last))
        return raw.decode("utf-8", "replace")

    def _close(self, end: int) -> WrittenRecord:
        """The open record ends at the offset `end` of the last piece."""
        assert self._opened is not None
        text = self._text(self._opened, len(self.pieces) - 1, end)
        token = self._opened.token
        self.pieces = self.pieces[-1:]
        self._opened = self._brace = None
        return self._read(text, token)

    def _give_up(self, brace: _Place) -> list[WrittenRecord]:
        """The open record is broken and the next one begins at `brace`."""
        assert self._opened is not None
        text = self._text(self._opened, brace.piece, brace.offset)
        token = self._opened.token
        self._open(brace)
        record = read_record(text + _NEXT_RECORD, 0, self._dialect, NestedBudget()).record
        if record.reason == TRUNCATED_RECORD:
            return []
        self.pieces = self.pieces[brace.piece :]
        self._opened = brace._replace(piece=0)
        return [self._read(text[: record.end], token)]

    def _read(self, text: str, token: int) -> WrittenRecord:
        record = read_record(text, 0, self._dialect, NestedBudget()).record
        if record.desc is None or record.values is None:
            return WrittenRecord(token, text, text, None, None, None)
        name = _normalised(record.desc)
        identity = (name, record.kind, record.values)
        return WrittenRecord(token, text, identity, name, record.kind, record.values)


@lru_cache(maxsize=4096)
def _normalised(desc: str) -> str:
    return normalise_desc(desc)


__all__ = ["RecordStream", "WrittenRecord"]
