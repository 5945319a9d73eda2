"""Text from models and datasets, made safe to print: nothing in it reaches the terminal as control.

Escape sequences could recolour the screen, move the cursor or set its title; bidirectional marks
could reorder what a reader sees. Both are shown as visible signs instead. So is what a CI service
that reads along would take for a command: `::add-mask::` where a line may begin, `##vso[`,
`##teamcity[`, `##[`.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_COMMAND = re.compile(r"(?<!\S):(?=:)|#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE)
_REFERENCE = re.compile(r"([@#])(?=[\w\\-])")
_WWW = re.compile(r"(?<![A-Za-z0-9])(www)\.", re.IGNORECASE)
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, limit: int | None = None) -> str:
    """The text with control, bidirectional and invisible characters written as escapes.

    So are signs that begin a command of a CI service. A text without any of these is unchanged.

    `limit` cuts after that many characters and appends an ellipsis.
    """
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    return _COMMAND.sub(_escape, _CONTROL.sub(_escape, text))


def unlinked(markdown: str) -> str:
    """Markdown in which no site makes links, mentions or references of words.

    Sites look for `@name`, `name@host` and `#1` when backslashes and references are resolved, so
    that these do not help: a space without width stands behind the sign. `www.` they look for
    before.
    """
    return _WWW.sub(r"\1\\.", _REFERENCE.sub(r"\1&#8203;", markdown))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    named = _NAMES.get(character)
    if named is not None:
        return named
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


__all__ = ["printable", "unlinked"]
