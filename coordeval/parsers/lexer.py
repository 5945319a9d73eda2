"""Patterns and single steps over a text: spaces, strings, scalars, nested values, resynchronising.

Every pattern is possessive where it repeats, so no step backtracks; every step moves forward, so
a text is read in time linear in its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # the scanner of json.loads

_ESCAPE = r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
STRING_INSIDE = rf'[^"\\\x00-\x1f]*+(?:{_ESCAPE}[^"\\\x00-\x1f]*+)*+'
"""Inside of a JSON string without fault."""
SPACES = re.compile(r"[ \t\n\r]*+")
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NUMBER = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
SCALAR = re.compile(rf"(?:{_NUMBER}|true|false|null)")
SPECIAL_TOKEN = re.compile(r"<\|(?!coord_)[^|<>\s]{1,40}\|>")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_W = r"[ \t\n\r]*+"
_KEY = r'(?:desc|bbox|box|poly|line|point|quad|label|name|category)[^"\\]{0,24}+'
RECORD_KEY = re.compile('"' + _KEY + '"' + _W + ":")
RECORD_START = re.compile(r"\{" + _W + RECORD_KEY.pattern)
SIBLING_START = re.compile(
    r"[}\]]"
    + _W
    + r",?+"
    + _W
    + r'(?="object_[0-9]{1,9}"'
    + _W
    + ":"
    + _W
    + r"\{|"
    + RECORD_START.pattern
    + ")"
)
KEY_AHEAD = re.compile(r'"[^"\\]{1,40}+"' + _W + ":")
SWALLOWED_KEY = re.compile(_W + r'[A-Za-z_][\w ]{0,40}+"' + _W + ":")

_RECORD_END = (
    r"\}(?="
    + _W
    + r"(?:,?+"
    + _W
    + r"\{|\]|\Z|<\||```|,"
    + _W
    + r'"[^"\\]{1,40}+"'
    + _W
    + r":"
    + _W
    + r"\{|\}"
    + _W
    + r"(?:\Z|<\||```)))"
)


def resync_pattern(record_start: str) -> re.Pattern[str]:
    """What ends a broken record, where `record_start` is how the next one begins.

    Every alternative begins with a character of its own, so that others are skipped over quickly.
    """
    return re.compile(
        r'\\["\\]'
        r'|"[^"\\]*+(?:\\.[^"\\]*+)*+"(?=' + _W + r"[:,}\]])"
        "|" + record_start + "(?P<start>)"
        "|" + _RECORD_END + "(?P<end>)",
        re.DOTALL,
    )


_RESYNC = resync_pattern(RECORD_START.pattern)
# Closing brackets in the middle of an open string may be its own text; at the very end of the
# answer they close the container, and the quote is what is missing.
_CLOSED_AT_END = re.compile(
    r"\}" + _W + r"(?:\](?:" + _W + r"\})?+" + _W + r"(?:\Z|<\||```)|\}" + _W + r"\Z)"
)
_NESTED_STEP = re.compile(r'[\[\]{}"]')
_CLOSER = {"[": "]", "{": "}"}
MAX_SCANS_TO_END = 16
"""How often per text a nested value may be followed to the very end before siblings end it."""


class TruncatedText(Exception):  # noqa: N818 - a signal inside the parser, not a fault
    """The text ended inside a record."""


@dataclass
class BrokenRecord(Exception):  # noqa: N818 - a signal inside the parser, not a fault
    """A record is broken outside the brackets of a geometry list."""

    detail: str
    resync_from: int
    evidence: str | None = None

    def __post_init__(self) -> None:
        super().__init__(self.detail)


def skip_spaces(text: str, position: int) -> int:
    """Position of the next character that is not JSON white space."""
    match = SPACES.match(text, position)
    assert match is not None
    return match.end()


def read_string(
    text: str, position: int, followers: str, *, cut_short: bool = False
) -> tuple[str, int]:
    """Decode the JSON string at `position`; what follows it must be one of `followers`.

    Returns the value and the position after the closing quote. Raises BrokenRecord with detail
    `unclosed_string` where the quote found is really the opening quote of a later key, or where
    the string runs over the closing brackets of the answer (unless the caller knows that it was
    `cut_short`); `bad_string` for control characters and
    unknown escapes; TruncatedText where the text ends inside.
    """
    match = STRING.match(text, position)
    if match is None:
        if not cut_short and _CLOSED_AT_END.search(text, position + 1):
            raise BrokenRecord("unclosed_string", position + 1)
        raise TruncatedText
    after = skip_spaces(text, match.end())
    if after == len(text):
        raise TruncatedText
    if text[after] not in followers:
        if SWALLOWED_KEY.match(text, match.end()) or (followers == ":" and ":" in match.group()):
            raise BrokenRecord("unclosed_string", position + 1)
        if text[after] == "]" and closes_container(text, after):
            raise BrokenRecord("missing_brace", after)
        detail = "missing_colon" if followers == ":" else "missing_comma"
        raise BrokenRecord(detail, match.end(), text[after : after + 20])
    try:
        value, _ = scanstring(text, position + 1, True)
    except ValueError:
        raise BrokenRecord("bad_string", match.end(), match.group()[:40]) from None
    if LONE_SURROGATE.search(value):
        value = LONE_SURROGATE.sub("\ufffd", value)
    return value, match.end()


def decode(inside: str) -> str:
    """The value of a JSON string from its inside, a STRING_INSIDE; lone surrogates replaced."""
    if "\\" in inside:
        inside, _ = scanstring(inside + '"', 0, True)
    return inside if inside.isascii() else LONE_SURROGATE.sub("\ufffd", inside)


@dataclass(slots=True)
class NestedBudget:
    """How many more nested values of one text may be followed to its end."""

    scans_left: int = MAX_SCANS_TO_END


def skip_nested(text: str, position: int, budget: NestedBudget) -> int:
    """Position after the balanced `[...]` or `{...}` that opens at `position`; strings honoured.

    Raises BrokenRecord on a closer of the wrong kind, and where the value runs to the end of the
    text over what looks like the next record; TruncatedText where it just runs to the end.
    """
    stack = [_CLOSER[text[position]]]
    place = position + 1
    sibling_at = len(text)
    if budget.scans_left <= 0:
        sibling = SIBLING_START.search(text, place)
        sibling_at = sibling.start() if sibling else len(text)
    while match := _NESTED_STEP.search(text, place, sibling_at):
        place = match.end()
        character = match.group()
        if character in "[{":
            stack.append(_CLOSER[character])
        elif character == '"':
            string = STRING.match(text, match.start())
            if string is None:
                break
            place = string.end()
        elif character != stack.pop():
            sibling = SIBLING_START.search(text, position, match.start())
            if sibling is not None:
                budget.scans_left -= 1
                raise BrokenRecord("unclosed_value", sibling.start())
            raise BrokenRecord("mismatched_bracket", match.start(), character)
        if not stack:
            return place
    budget.scans_left -= 1
    sibling = SIBLING_START.search(text, position)
    if sibling is not None:
        raise BrokenRecord("unclosed_value", sibling.start())
    raise TruncatedText


def skip_value(text: str, at: int, budget: NestedBudget) -> int:
    """Position after any JSON value; raises TruncatedText or BrokenRecord."""
    if at >= len(text):
        raise TruncatedText
    if text[at] in "[{":
        return skip_nested(text, at, budget)
    pattern = STRING if text[at] == '"' else SCALAR
    match = pattern.match(text, at)
    if match is None:
        raise BrokenRecord("bad_value", at)
    return match.end()


def closes_container(text: str, bracket: int) -> bool:
    """True where `]` is followed by `}` and the end: the record's own brace is what is missing."""
    brace = skip_spaces(text, bracket + 1)
    if brace >= len(text) or text[brace] != "}":
        return False
    rest = skip_spaces(text, brace + 1)
    return rest >= len(text) or text.startswith(("<|", "```"), rest)


def resync(
    text: str, opening: int, position: int, pattern: re.Pattern[str] = _RESYNC
) -> tuple[int, bool]:
    """Where the broken record that opened at `opening` ends, searching from `position`.

    Returns the position after its closing brace, or the end of its content before the next
    record; and whether any such place was found (else the position is the end of the text).
    """
    for match in pattern.finditer(text, position):
        if match.lastgroup == "end":
            return match.end(), True
        if match.lastgroup == "start":
            return before_separator(text, opening, match.start()), True
    return len(text), False


def before_separator(text: str, opening: int, end: int) -> int:
    """Position before the white space and the comma that stand before `end`."""
    while end > opening and text[end - 1] in " \t\n\r":
        end -= 1
    if end > opening and text[end - 1] == ",":
        end -= 1
    return end


__all__ = [
    "KEY_AHEAD",
    "LONE_SURROGATE",
    "MAX_SCANS_TO_END",
    "RECORD_KEY",
    "RECORD_START",
    "SCALAR",
    "SPECIAL_TOKEN",
    "STRING",
    "STRING_INSIDE",
    "BrokenRecord",
    "NestedBudget",
    "TruncatedText",
    "before_separator",
    "closes_container",
    "decode",
    "read_string",
    "resync",
    "resync_pattern",
    "skip_nested",
    "skip_spaces",
    "skip_value",
]
