"""Python's way of writing dictionaries brought to JSON's, and the way back to where they stood."""

from __future__ import annotations

import re
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
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))|\"|[\x00-\x1f]", re.DOTALL)


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
    out: list[str] = []
    result = Unquoted(text, changed=True)
    length = place = 0
    unclosed_from = len(text)

    def keep(start: int, shown: str) -> None:
        nonlocal length
        result.starts.append(length)
        result.written.append(start)
        out.append(shown)
        length += len(shown)

    search = 0
    while match := _OPENS.search(text, search):
        at = match.start("quote")
        search = at + 1
        if match["quote"] == '"':
            string = _DOUBLE.match(text, at)
            search = string.end() if string is not None else search
            continue
        single = _SINGLE.match(text, at) if at < unclosed_from else None
        keep(place, text[place:at])
        if (
            single is None or single[2] is None or _opens_key(text, single.end() - 1)
        ):  # its end is missing, which the reader of the record finds out
            keep(at, '"')
            place = at + 1
            if single is not None and single.end() == len(text):
                unclosed_from = at
            continue
        keep(at, '"')
        keep(at + 1, _ESCAPE.sub(_to_json, single[1]))
        keep(single.end() - 1, '"')
        place = search = single.end()
    keep(place, text[place:])
    keep(len(text), "")
    result.text = "".join(out)
    return result


def _opens_key(text: str, quote: int) -> bool:
    return _KEY.match(text, quote) is not None


def _to_json(match: re.Match[str]) -> str:
    """One escape of Python's, quote or control character, as JSON writes it."""
    if match[1] is not None:
        return f"\\u00{match[1]}"
    if match[2] is not None:
        return match[2] if match[2] == "'" else match.group()
    return '\\"' if match.group() == '"' else match.group()


__all__ = ["Unquoted", "unquoted"]
