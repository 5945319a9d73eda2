"""The careful path: find the container and read what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.parsers.bare import read_bare
from coordeval.parsers.canonical import find_runs
from coordeval.parsers.lexer import (
    KEY_AHEAD,
    SPECIAL_TOKEN,
    BrokenRecord,
    TruncatedText,
    read_string,
    skip_spaces,
    skip_value,
)
from coordeval.parsers.listing import walk_list
from coordeval.parsers.mapping import read_map
from coordeval.parsers.state import ReadState
from coordeval.parsers.surroundings import LIST_CONTAINER, LIST_KEY, note_after, note_before
from coordeval.records import ParsedRollout

if TYPE_CHECKING:
    from coordeval.parsers.canonical import Runs
    from coordeval.parsers.dialects import Dialect


def parse_careful(text: str, dialect: Dialect, runs: Runs | None = None) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length.

    `runs` are its canonical records, which only save time: without them every record is read field
    by field.
    """
    if not text.strip():
        return ParsedRollout(records=[], issues={"empty_output": 1}, objects=[])
    state = ReadState(text, dialect, runs)
    found = read_map(state) if dialect.container == "map" else read_list_container(state)
    if not found:
        state.issues["no_container"] += 1
        if runs is not None and dialect.container == "map":
            state.runs = find_runs(text, dialect, in_map=False)
        read_bare(state)
    issues = {name: count for name, count in state.issues.items() if count}
    objects = [record for record in state.records if record.reason is None]
    if len(objects) == len(state.records):
        objects = state.records
    return ParsedRollout(records=state.records, issues=issues, objects=objects)


def read_list_container(state: ReadState) -> bool:
    text = state.text
    match = LIST_CONTAINER.search(text)
    key = LIST_KEY.search(text)
    if key is None:
        return False
    if match is not None and match.end() == key.end():
        start = match.start()
        if text[start : match.end()] != '{"objects": [':
            state.issues["nonstandard_spacing"] += 1
    else:
        opening = _opening_before(state, key.start())
        if opening is None:
            return False
        start = opening
        state.issues["unknown_top_level_key"] += 1
    note_before(state, start)
    after, closed = walk_list(state, key.end())
    if closed:
        after = _close_container(state, after)
    note_after(state, after, LIST_CONTAINER)
    return True


def _opening_before(state: ReadState, key_at: int) -> int | None:
    """The `{` whose earlier fields lead exactly to the key `objects`, if there is one."""
    text = state.text
    opening = text.find("{", 0, key_at)
    if opening < 0:
        return None
    place = skip_spaces(text, opening + 1)
    try:
        while place < key_at:
            _, place = read_string(text, place, ":") if text[place] == '"' else ("", -1)
            if place < 0:
                return None
            value_at = skip_spaces(text, skip_spaces(text, place) + 1)
            place = skip_value(text, value_at, state.budget)
            place = skip_spaces(text, place)
            if not text.startswith(",", place):
                return None
            place = skip_spaces(text, place + 1)
    except (BrokenRecord, TruncatedText):
        return None
    return opening if place == key_at else None


def _close_container(state: ReadState, place: int) -> int:
    """Read what stands between the list's `]` and the container's `}`."""
    text, size = state.text, len(state.text)
    while True:
        place = state.spaces(place)
        if place >= size or SPECIAL_TOKEN.match(text, place):
            state.issues["truncated"] += not state.is_truncated
            return place
        character = text[place]
        if character == "}":
            return place + 1
        if character == ",":
            following = skip_spaces(text, place + 1)
            if text.startswith("}", following):
                state.issues["trailing_comma"] += 1
                place = following
                continue
            if KEY_AHEAD.match(text, following):
                place = _extra_key(state, following)
                if place < 0:
                    return size
                continue
        if character == "]":
            state.issues["stray_value"] += 1
            place += 1
            continue
        state.issues["truncated"] += not state.is_truncated
        return place


def _extra_key(state: ReadState, at: int) -> int:
    """Step over `"key": value`; returns -1 where the text ends or breaks inside."""
    name = "second_container" if LIST_KEY.match(state.text, at) else "unknown_top_level_key"
    state.issues[name] += 1
    try:
        _, after = read_string(state.text, at, ":")
        value_at = skip_spaces(state.text, skip_spaces(state.text, after) + 1)
        return skip_value(state.text, value_at, state.budget)
    except (BrokenRecord, TruncatedText):
        state.issues["truncated"] += not state.is_truncated
        return -1


__all__ = ["parse_careful"]
