"""The older container: a map `{"object_1": {...}, "object_2": {...}}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.canonical import run_numbers
from coordeval.parsers.lexer import (
    KEY_AHEAD,
    RECORD_START,
    SPECIAL_TOKEN,
    BrokenRecord,
    TruncatedText,
    skip_value,
)
from coordeval.parsers.listing import skip_stray
from coordeval.parsers.record import MAP_KEY
from coordeval.parsers.surroundings import MAP_CONTAINER, MAP_ENTRY, note_after, note_before

if TYPE_CHECKING:
    from coordeval.parsers.state import ReadState

_W = r"[ \t\n\r]*+"
_MAP_GOES_ON = re.compile(r"\}" + _W + ",?+" + _W + MAP_ENTRY)
_CUT_KEY = re.compile(r'"[^"\\]{0,40}+(?:"' + _W + ":?+" + _W + r")?+\Z")
_EMPTY_MAP = re.compile(r"\{" + _W + r"\}")


def read_map(state: ReadState) -> bool:
    """Read the first map of a text, records in the order of their numbers; False without one."""
    text = state.text
    match = MAP_CONTAINER.search(text)
    if match is None:
        empty = _EMPTY_MAP.search(text)
        if empty is None or empty.start() != text.find("{") or RECORD_START.search(text):
            return False
        note_before(state, empty.start())
        note_after(state, empty.end(), MAP_CONTAINER)
        return True
    note_before(state, match.start())
    numbers: list[int] = []
    after = _walk_map(state, match.end(), numbers)
    note_after(state, after, MAP_CONTAINER)
    order = sorted(range(len(state.records)), key=numbers.__getitem__)
    state.records = [state.records[i] for i in order]
    return True


def _walk_map(state: ReadState, place: int, numbers: list[int]) -> int:
    """Read `"object_N": {...}` entries up to and including the closing brace.

    Appends each record's N to `numbers`; returns the position after the brace.
    """
    text, size = state.text, len(state.text)
    after_value = after_comma = False
    number = 0
    while True:
        place = state.spaces(place, " " if after_comma else "")
        token = SPECIAL_TOKEN.match(text, place)
        if place >= size or (token and state.ahead.find(place) is None):
            state.issues["truncated"] += not state.is_truncated
            return place
        character = text[place]
        if character == "}" and _MAP_GOES_ON.match(text, place):
            state.issues["stray_value"] += 1
            after_value, after_comma, place = True, False, place + 1
            continue
        if _CUT_KEY.match(text, place):
            state.issues["truncated"] += not state.is_truncated
            return size
        if character == "}":
            state.issues["trailing_comma"] += after_comma
            return place + 1
        if character == ",":
            state.issues["trailing_comma"] += after_comma or not after_value
            after_comma, place = True, place + 1
            continue
        key = KEY_AHEAD.match(text, place)
        known = MAP_KEY.fullmatch(key.group()[1:].partition('"')[0]) if key else None
        if key is not None:
            state.issues["missing_comma"] += after_value and not after_comma
            state.issues["unknown_top_level_key"] += known is None
            place = state.spaces(key.end(), " ")
            number = int(known.group(1)) if known else number
        if text.startswith("{", place):
            state.issues["stray_value"] += key is None
            first = len(state.records)
            place = state.record(place)
            numbers.append(number)
            numbers += run_numbers(text, state.records[first:])
            number = numbers[-1]
        elif place < size:
            state.issues["stray_value"] += key is None or known is not None
            place = _skip_any(state, place) if key is not None else skip_stray(state, place)
        after_value, after_comma = True, False


def _skip_any(state: ReadState, place: int) -> int:
    """Position after the value of an entry that is no record; stray pieces where it is broken."""
    try:
        return skip_value(state.text, place, state.budget)
    except (BrokenRecord, TruncatedText):
        return skip_stray(state, place)


__all__ = ["read_map"]
