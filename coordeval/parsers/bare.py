"""Records without a container: a bare list, a lone record, or records amid other text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.parsers.lexer import (
    RECORD_START,
    BrokenRecord,
    TruncatedText,
    skip_nested,
    skip_spaces,
)
from coordeval.parsers.listing import walk_list
from coordeval.parsers.surroundings import (
    FENCE,
    LIST_CONTAINER,
    PUNCTUATION,
    note_after,
    note_before,
)

if TYPE_CHECKING:
    from coordeval.parsers.state import ReadState


def read_bare(state: ReadState) -> None:
    """Records without a container: a bare list, a lone record, or records amid other text."""
    text = state.text
    match = RECORD_START.search(text)
    if match is None:
        _nothing_found(state)
        return
    place = match.start()
    before = text[:place].rstrip()
    bracketed = before.endswith("[")
    note_before(state, len(before) - 1 if bracketed else place)
    while True:
        if bracketed:
            place, _ = walk_list(state, place)
        else:
            place = _walk_unbracketed(state, place)
        match = RECORD_START.search(text, place)
        if match is None:
            break
        state.issues["stray_value"] += 1
        place, bracketed = match.start(), False
    if PUNCTUATION.sub("", text[place:]):
        note_after(state, place, LIST_CONTAINER)


def _walk_unbracketed(state: ReadState, place: int) -> int:
    """Read records that follow one another; returns the position after the last one."""
    text = state.text
    while True:
        place = state.record(place)
        following = skip_spaces(text, place)
        comma = text.startswith(",", following)
        if comma:
            following = skip_spaces(text, following + 1)
        if not RECORD_START.match(text, following):
            return place
        state.issues["missing_comma"] += not comma
        place = following


def _nothing_found(state: ReadState) -> None:
    text = FENCE.sub("", state.text).strip()
    if text[:1] in ("{", "["):
        try:
            skip_nested(text, 0, state.budget)
        except TruncatedText:
            state.issues["truncated"] += 1
        except BrokenRecord:
            pass
    state.issues["code_fence"] += FENCE.search(state.text) is not None


__all__ = ["read_bare"]
