"""What stands before and after the container: prose, fences, special tokens, more containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.lexer import BrokenRecord, TruncatedText, skip_nested

if TYPE_CHECKING:
    from coordeval.parsers.state import ReadState

_W = r"[ \t\n\r]*+"
LIST_KEY = re.compile(r'"objects"' + _W + ":" + _W + r"\[")
LIST_CONTAINER = re.compile(r"\{" + _W + LIST_KEY.pattern)
MAP_ENTRY = r'"object_[0-9]{1,9}"' + _W + ":" + _W + r"\{"
MAP_CONTAINER = re.compile(r"\{" + _W + f"(?={MAP_ENTRY})")
FENCE = re.compile(r"```[A-Za-z0-9_-]*+")
PUNCTUATION = re.compile(r'"[^"\\]*+"|[\[\]{}:,\s]++')


def note_before(state: ReadState, start: int) -> None:
    """Note what stands before `start`, where the container or the first record opens."""
    prefix = state.text[:start]
    if not prefix:
        return
    without_fence = FENCE.sub("", prefix)
    state.issues["code_fence"] += without_fence != prefix
    rest = without_fence.strip()
    if state.issues["no_container"]:
        rest = PUNCTUATION.sub("", rest)
    state.issues["text_before"] += bool(rest)
    state.issues["nonstandard_spacing"] += not prefix.strip()


def note_after(state: ReadState, end: int, container: re.Pattern[str]) -> None:
    """Note what stands after `end`; further matches of `container` are counted, not read."""
    suffix = state.text[end:]
    if not suffix:
        return
    outside: list[str] = []
    place = 0
    while match := container.search(suffix, place):
        state.issues["second_container"] += 1
        outside.append(suffix[place : match.start()])
        place = _end_of_container(state, suffix, match.start())
    outside.append(suffix[place:])
    around = " ".join(outside)
    without_fence = FENCE.sub("", around)
    state.issues["code_fence"] += without_fence != around
    state.issues["text_after"] += bool(without_fence.strip())
    state.issues["nonstandard_spacing"] += not suffix.strip()


def _end_of_container(state: ReadState, suffix: str, opening: int) -> int:
    """Position after a further container that opens at `opening` (broken: after its brace)."""
    if state.budget.scans_left <= 0:
        return opening + 1
    try:
        return skip_nested(suffix, opening, state.budget)
    except TruncatedText:
        state.issues["truncated"] += not state.is_truncated
        return len(suffix)
    except BrokenRecord:
        state.budget.scans_left -= 1
        return opening + 1


__all__ = [
    "FENCE",
    "LIST_CONTAINER",
    "LIST_KEY",
    "MAP_CONTAINER",
    "MAP_ENTRY",
    "PUNCTUATION",
    "note_after",
    "note_before",
]
