"""Python's way of writing dictionaries brought to JSON's, and the way back to where they stood."""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.parsers.record_keys import RecordKeys

_W = r"[ \t\n\r]*+"
_DOUBLE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY_AHEAD = r"'[A-Za-z_][\w ]{0,40}+'" + _W + ":"
# The quote that closes a string is followed by what can follow a string; one that opens a key says
# that the string before it was never closed.
_KEY = re.compile(_KEY_AHEAD)
_SINGLE = re.compile(
    r"'((?:[^'\\]++|\\.|(?!" + _KEY_AHEAD + r")'(?!" + _W + r"(?:[,:\]}]|\Z)))*+)(')?+",
    re.DOTALL,
)
_DRIFTED = (
    "[a-z_]{0,24}bbox[a-z0-9_]{0,24}"
    "|(?:desc|box|poly|line|point|quad|label|name|category)[a-z0-9_]{0,24}"
)
_OPENS = re.compile(r"(?<=[{\[,:])(?P<spaces>" + _W + r")(?P<quote>['\"])")
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-fA-F]{2})|U(?P<wide>[0-9a-fA-F]{8})|(?P<other>.))|\"|[\x00-\x1f]",
    re.DOTALL,
)


@dataclass(slots=True)
class Unquoted:
    """A text whose strings are in double quotes, and where each part of it was written.

    `changed` is False where there was nothing to do: the text is then the one that was given.
    """

    text: str
    changed: bool = False
    starts: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def place(self, position: int) -> int:
        """The place in the given text that a position in this one stands for."""
        if not self.changed:
            return position
        part = bisect_right(self.starts, position) - 1
        place = self.written[part] + position - self.starts[part]
        limit = self.written[part + 1] if part + 1 < len(self.written) else place
        return min(place, limit)


@lru_cache(maxsize=32)
def _single_key(keys: RecordKeys) -> re.Pattern[str]:
    names = {*keys.name, *keys.box, *keys.poly, *keys.line}
    if keys.objects is not None:
        names.add(keys.objects)
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(r"[{,]" + _W + f"'(?:{known}|{_DRIFTED})'" + _W + ":")


def unquoted(text: str, keys: RecordKeys) -> Unquoted:
    """Bring single-quoted strings to JSON where a known key is written so; linear in the text.

    Only a quote in the place of a string (behind `{`, `[`, `,` or `:`) opens one, so apostrophes in
    prose and in double-quoted strings stay.
    """
    if "'" not in text or _single_key(keys).search(text) is None:
        return Unquoted(text)
    writing = _Writing(text)
    search = 0
    while match := _OPENS.search(text, search):
        read = writing.double if match["quote"] == '"' else writing.single
        search = read(match.start("quote"))
    return writing.result()


class _Writing:
    """The text as JSON, written up to `place`; no single quote from `unclosed_from` on closes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.unclosed_from = len(text)
        self.out: list[str] = []
        self.length = 0
        self.unquoted = Unquoted(text, changed=True)

    def keep(self, start: int, shown: str) -> None:
        """Write what stands for the text from `start` on."""
        self.unquoted.starts.append(self.length)
        self.unquoted.written.append(start)
        self.out.append(shown)
        self.length += len(shown)

    def double(self, at: int) -> int:
        """A string in double quotes, which Python takes where an apostrophe is in it."""
        string = _DOUBLE.match(self.text, at)
        if string is None:
            return at + 1
        inside = string.group()[1:-1]
        if "\\" in inside:
            self.keep(self.place, self.text[self.place : at + 1])
            self.keep(at + 1, _ESCAPE.sub(_to_json, inside))
            self.place = string.end() - 1
        return string.end()

    def single(self, at: int) -> int:
        """A string in single quotes; where its end is missing, the record's reader finds out."""
        text = self.text
        string = _SINGLE.match(text, at) if at < self.unclosed_from else None
        self.keep(self.place, text[self.place : at])
        self.keep(at, '"')
        self.place = at + 1
        if string is None or string[2] is None or _opens_key(text, string.end() - 1):
            if string is not None and string.end() == len(text):
                self.unclosed_from = at
            return at + 1
        self.keep(at + 1, _ESCAPE.sub(_to_json, string[1]))
        self.keep(string.end() - 1, '"')
        self.place = string.end()
        return string.end()

    def result(self) -> Unquoted:
        """The whole text, its rest as it stands."""
        self.keep(self.place, self.text[self.place :])
        self.keep(len(self.text), "")
        self.unquoted.text = "".join(self.out)
        return self.unquoted


def _opens_key(text: str, quote: int) -> bool:
    return _KEY.match(text, quote) is not None


def _to_json(match: re.Match[str]) -> str:
    """One escape of Python's, quote or control character, as JSON writes it."""
    if match["byte"] is not None:
        return f"\\u00{match['byte']}"
    if match["wide"] is not None:
        code = int(match["wide"], 16)
        return json.dumps(chr(code))[1:-1] if code <= sys.maxunicode else match.group()
    if match["other"] is not None:
        return match["other"] if match["other"] == "'" else match.group()
    return '\\"' if match.group() == '"' else match.group()


__all__ = ["Unquoted", "unquoted"]
