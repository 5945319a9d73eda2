"""The careful path: find the container and read what it holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.bare import read_bare
from coordeval.parsers.canonical import find_runs
from coordeval.parsers.lexer import (
    KEY_AHEAD,
    MAX_SCANS_TO_END,
    RECORD_START,
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

_MAP_OPENS = re.compile(r'\{[ \t\n\r]*+"')


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
    at_once = match is not None and match.end() == key.end()
    opening = None if at_once else _opening_before(state, key.start())
    if opening is not None:
        start = opening
        state.issues["unknown_top_level_key"] += 1
    elif match is None or not (at_once or _is_mention(text, key.end())):
        return False
    else:
        start, key = match.start(), match
        state.issues["nonstandard_spacing"] += match.group() != '{"objects": ['
    note_before(state, start)
    after: int | None = key.end()
    while after is not None:
        end, closed = walk_list(state, after)
        end, after = _close_container(state, end) if closed else (end, None)
    note_after(state, end, LIST_CONTAINER)
    return True


def _is_mention(text: str, inside: int) -> bool:
    """True where the key stands in prose, before the container: its list begins with no record."""
    return RECORD_START.match(text, skip_spaces(text, inside)) is None


def _opening_before(state: ReadState, key_at: int) -> int | None:
    """The first `{` whose earlier fields lead exactly to the key `objects`, if there is one.

    Braces in the prose before it lead elsewhere. Only so many are followed, as each may be long;
    those that hold no field, and maps that close before the key, are stepped over.
    """
    text = state.text
    attempts = MAX_SCANS_TO_END
    match = _MAP_OPENS.search(text, 0, key_at)
    while match is not None and attempts:
        place = _follow_fields(state, match.end() - 1, key_at)
        if place == key_at:
            return match.start()
        if place < key_at and text[place] == "}":
            match = _MAP_OPENS.search(text, place, key_at)
        else:
            attempts -= 1
            match = _MAP_OPENS.search(text, match.end(), key_at)
    return None


def _follow_fields(state: ReadState, place: int, key_at: int) -> int:
    """Where the fields from `place` on stop, at the latest at or behind `key_at`."""
    text = state.text
    try:
        while place < key_at and text[place] == '"':
            _, after_key = read_string(text, place, ":")
            value_at = skip_spaces(text, skip_spaces(text, after_key) + 1)
            place = skip_spaces(text, skip_value(text, value_at, state.budget))
            if not text.startswith(",", place):
                return place
            place = skip_spaces(text, place + 1)
    except (BrokenRecord, TruncatedText):
        return place
    return place


def _close_container(state: ReadState, place: int) -> tuple[int, int | None]:
    """Read what stands between the list's `]` and the container's `}`.

    Returns where the container ends. Where it is broken and records follow all the same, also the
    place of the next one, from which the list goes on.
    """
    text, size = state.text, len(state.text)
    while True:
        place = state.spaces(place)
        if place >= size:
            state.issues["truncated"] += not state.is_truncated
            return place, None
        character = text[place]
        if character == "}":
            return place + 1, None
        if character == ",":
            following = skip_spaces(text, place + 1)
            if text.startswith("}", following):
                state.issues["trailing_comma"] += 1
                place = following
                continue
            if KEY_AHEAD.match(text, following):
                place = _extra_key(state, following)
                if place < 0:
                    return size, None
                continue
        if character == "]":
            state.issues["stray_value"] += 1
            place += 1
            continue
        return _break_container(state, place)


def _break_container(state: ReadState, place: int) -> tuple[int, int | None]:
    """The same where at `place` stands what no container holds; another one is not this one's."""
    following = state.ahead.find(place)
    if following is not None:
        state.issues["stray_value"] += 1
        return place, following
    state.issues["truncated"] += not state.is_truncated
    return place, None


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
