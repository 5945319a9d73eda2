"""Text from models and datasets, made safe to print: nothing in it reaches the terminal as control.

Escape sequences could recolour the screen, move the cursor or set its title; bidirectional marks
could reorder what a reader sees. Both are shown as visible signs instead.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, limit: int | None = None) -> str:
    """The text with control, bidirectional and invisible characters written as escapes.

    `limit` cuts after that many characters and appends an ellipsis.
    """
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    named = _NAMES.get(character)
    if named is not None:
        return named
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


__all__ = ["printable"]
