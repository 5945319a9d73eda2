"""The list of records: walk it, and tell its end from the remnants of broken records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.lexer import RECORD_KEY, RECORD_START, SPECIAL_TOKEN, STRING, skip_spaces

if TYPE_CHECKING:
    from coordeval.parsers.state import ReadState

_LEAVES_REMNANTS = ("malformed_record", "missing_desc", "missing_geometry", "wrong_arity")
_AFTER_STRING = (",", "]", "}", ":", "{", "")
_STRAY_WORD = re.compile(r'[^\s,\[\]{}"]++')


def walk_list(state: ReadState, place: int) -> tuple[int, bool]:
    """Read the list whose inside begins at `place`, up to and including its `]`.

    Returns the position after it and whether it was closed.
    """
    text, size = state.text, len(state.text)
    nesting = 0
    after_value = after_comma = False
    while True:
        place = state.spaces(place, " " if after_comma else "")
        if place >= size:
            state.issues["truncated"] += not state.is_truncated
            return size, False
        character = text[place]
        if character == "{":
            state.issues["missing_comma"] += after_value and not after_comma
            place = state.record(place)
            while text.startswith(", {", place):
                place = state.record(place + 2)
            after_value, after_comma = True, False
        elif character == ",":
            state.issues["trailing_comma"] += after_comma or not after_value
            after_comma = True
            place += 1
        elif character == "]" and (nesting or _list_goes_on(state, place)):
            state.issues["stray_value"] += nesting == 0
            nesting = max(0, nesting - 1)
            place += 1
            after_value, after_comma = True, False
        elif character == "]":
            state.issues["trailing_comma"] += after_comma
            return place + 1, True
        elif SPECIAL_TOKEN.match(text, place) and state.ahead.find(place) is None:
            state.issues["truncated"] += 1
            return place, False
        elif character == "}" and _brace_closes_container(state, place):
            state.issues["stray_value"] += 1
            return place, True
        else:
            state.issues["stray_value"] += 1
            nesting += character == "["
            place = skip_stray(state, place)
            after_value, after_comma = after_value or character not in "}[", False


def _brace_closes_container(state: ReadState, brace: int) -> bool:
    """True where the list lost its `]`: nothing of a list follows the brace."""
    following = skip_spaces(state.text, brace + 1)
    if state.text.startswith("<|coord_", following):
        return False
    return following >= len(state.text) or state.text[following] not in ',]}{"'


def _list_goes_on(state: ReadState, bracket: int) -> bool:
    """True where a `]` is a remnant of a broken record: records follow it all the same."""
    text = state.text
    following = skip_spaces(text, bracket + 1)
    if RECORD_START.match(text, following) or RECORD_KEY.match(text, following):
        return True
    comma = text.startswith(",", following)
    after_comma = skip_spaces(text, following + 1)
    if comma and RECORD_START.match(text, after_comma):
        return True
    if not state.records or state.records[-1].reason not in _LEAVES_REMNANTS:
        return False
    if comma:
        return RECORD_KEY.match(text, after_comma) is not None
    if not text.startswith("}", following) or not text.startswith(",", after_comma):
        return False
    return RECORD_START.match(text, skip_spaces(text, after_comma + 1)) is not None


def skip_stray(state: ReadState, place: int) -> int:
    """Position after the string, word or single character at `place` that is no record."""
    text = state.text
    if text[place] == '"':
        if place >= state.unclosed_from:
            return place + 1
        string = STRING.match(text, place)
        if string is None:
            state.unclosed_from = place
            return place + 1
        following = skip_spaces(text, string.end())
        return string.end() if text[following : following + 1] in _AFTER_STRING else place + 1
    word = _STRAY_WORD.match(text, place)
    return word.end() if word else place + 1


__all__ = ["skip_stray", "walk_list"]
