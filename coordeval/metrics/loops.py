"""Loops: a block of records (or of tokens, where records are unreadable) over and over again.

A loop is a block of p >= 1 records that stands at least 4 times back to back. Readable records
are equal when name and coordinate values are, unreadable ones when their raw text is. Inside
unreadable stretches, and in text that holds no record, the same is asked of the pieces of the
text (words, special tokens, single signs), over at least `MIN_PIECES` pieces so that an innocent
`[0, 0, 0, 0]` is no loop. The onset is where the second copy starts; the end includes a partial
last copy that the end of the text cuts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.emission import emission_order, in_order
from coordeval.metrics.repeats import periodic_runs, without_overlaps
from coordeval.metrics.spans import DisjointSpans
from coordeval.metrics.token_map import build_token_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.metrics.columns import ImageEntry, Written
    from coordeval.metrics.repeats import PeriodicRun

MIN_PIECES = 24
MIN_GAP_CHARS = 48
MAX_PIECE_PERIOD = 4096
_COMPARED_AT_ONCE = 64
# Words are cut into short pieces, so that a repetition inside one endless word shows as well.
_PIECE_RE = re.compile(r"<\|[^|<>\s]{1,40}\|>|[A-Za-z0-9_]{1,8}|[ ]{2,8}|[\n\t\r]|[^\sA-Za-z0-9_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFinding:
    """One loop in one image's text.

    `start_char` is where the first copy starts, `onset_char` where the second does, `end_char`
    where the loop ends. `period_records` is None for loops of text pieces. `repeats` counts the
    whole copies, the first included. `onset_token` and `wasted_tokens` (from the onset to the
    end) are None without token ids.
    """

    image: int
    start_char: int
    onset_char: int
    end_char: int
    period_records: int | None
    repeats: int
    reaches_end: bool
    onset_token: int | None = None
    wasted_tokens: int | None = None


def find_loops(
    written: Written,
    record_key: NDArray[np.int64],
    readable: NDArray[np.bool_],
    vocabulary: NDArray[np.int64] | None,
) -> list[LoopFinding]:
    """All loops, by image and place, with their places among the tokens of images that have them.

    As `text_loops`; `vocabulary` are the ids of the bins, None where they are not known.
    """
    by_image = text_loops(written, record_key, readable)
    return [
        loop
        for image, loops in by_image.items()
        for loop in with_tokens(loops, written.images[image], vocabulary)
    ]


def text_loops(
    written: Written, record_key: NDArray[np.int64], readable: NDArray[np.bool_]
) -> dict[int, list[LoopFinding]]:
    """Per row of `images` that has any, its loops by place; those of one image do not overlap.

    `record_key` (records) gives equal records of one image the same number and differs between
    images; `readable` (records) says whose name and values could be read.
    """
    order = emission_order(written)
    if order is not None:
        written = in_order(written, order)
        record_key, readable = record_key[order], readable[order]
    runs = _record_runs(written, record_key)
    found = [_record_loop(written, run) for run in runs]
    settled = readable.copy()
    for run in runs:
        settled[run.start : run.start + run.length] = True
    found.extend(_piece_loops(written, settled))
    by_image: dict[int, list[LoopFinding]] = defaultdict(list)
    taken: dict[int, DisjointSpans] = defaultdict(DisjointSpans)
    for loop in found:
        if taken[loop.image].take(loop.start_char, loop.end_char):
            by_image[loop.image].append(loop)
    return {
        image: sorted(by_image[image], key=lambda loop: loop.start_char)
        for image in sorted(by_image)
    }


def _record_runs(columns: Written, record_key: NDArray[np.int64]) -> list[PeriodicRun]:
    if not len(record_key):
        return []
    longest = int(np.bincount(columns.record_image).max())
    by_image: dict[int, list[PeriodicRun]] = {}
    for run in periodic_runs(record_key, longest=longest):
        by_image.setdefault(int(columns.record_image[run.start]), []).append(run)
    return [run for runs in by_image.values() for run in without_overlaps(runs)]


def _record_loop(columns: Written, run: PeriodicRun) -> LoopFinding:
    start, end = columns.records.start, columns.records.end
    image = int(columns.record_image[run.start])
    last = run.start + run.length - 1
    end_char, reaches_end = _through_partial_copy(
        columns.images[image].text, end[last], end[last - run.period]
    )
    return LoopFinding(
        image=image,
        start_char=start[run.start],
        onset_char=start[run.start + run.period],
        end_char=end_char,
        period_records=run.period,
        repeats=run.copies,
        reaches_end=reaches_end,
    )


def _through_partial_copy(text: str, loop_end: int, same_place_before: int) -> tuple[int, bool]:
    """The loop's end, moved to the end of the text where a cut copy follows it."""
    place, step = loop_end, _COMPARED_AT_ONCE
    # Piece by piece: the rest of a text that goes on is long, and differs soon.
    while place < len(text):
        tail, before = text[place : place + step], place - loop_end + same_place_before
        if text[before : before + len(tail)] != tail:
            return loop_end, False
        place, step = place + step, 2 * step
    return len(text), True


def _piece_loops(columns: Written, settled: NDArray[np.bool_]) -> Iterator[LoopFinding]:
    """Loops of text pieces outside the records that are readable or loop themselves."""
    stretches = list(_unreadable_stretches(columns, settled))
    codes: dict[str, int] = {}
    symbols: list[int] = []
    place: list[tuple[int, int, int]] = []
    longest = 0
    for image, start, end in stretches:
        text = columns.images[image].text
        before = len(symbols)
        for match in _PIECE_RE.finditer(text, start, end):
            symbols.append(codes.setdefault(match.group(), len(codes)))
            place.append((image, match.start(), match.end()))
        longest = max(longest, len(symbols) - before)
        # A symbol that occurs nowhere else keeps stretches apart.
        symbols.append(-len(place) - 1)
        place.append((image, end, end))
    if longest < MIN_PIECES:
        return
    runs = periodic_runs(
        np.asarray(symbols, dtype=np.int64), longest=longest, max_period=MAX_PIECE_PERIOD
    )
    for run in without_overlaps([run for run in runs if run.length >= MIN_PIECES]):
        image = place[run.start][0]
        text = columns.images[image].text
        end_char, reaches_end = _through_partial_copy(
            text,
            place[run.start + run.length - 1][2],
            place[run.start + run.length - 1 - run.period][2],
        )
        yield LoopFinding(
            image=image,
            start_char=place[run.start][1],
            onset_char=place[run.start + run.period][1],
            end_char=end_char,
            period_records=None,
            repeats=run.copies,
            reaches_end=reaches_end,
        )


def _unreadable_stretches(
    columns: Written, settled: NDArray[np.bool_]
) -> Iterator[tuple[int, int, int]]:
    """(image, start, end) of text without records, and of records that are not settled."""
    start = np.asarray(list(columns.records.start), dtype=np.int64)
    end = np.asarray(list(columns.records.end), dtype=np.int64)
    image = columns.record_image
    lengths = np.array([len(entry.text) for entry in columns.images], dtype=np.int64)
    for place, entry in enumerate(columns.images):
        if not entry.num_found and lengths[place] >= MIN_PIECES:
            yield place, 0, int(lengths[place])
    for row in np.flatnonzero(~settled & (end - start >= MIN_PIECES)).tolist():
        yield int(image[row]), int(start[row]), int(end[row])
    if not len(image):
        return
    is_first = np.ones(len(image), dtype=bool)
    is_first[1:] = image[1:] != image[:-1]
    gap_start = np.where(is_first, 0, np.concatenate([[0], end[:-1]]))
    for row in np.flatnonzero(start - gap_start >= MIN_GAP_CHARS).tolist():
        yield int(image[row]), int(gap_start[row]), int(start[row])
    is_last = np.append(is_first[1:], True)
    tail = lengths[image] - end
    for row in np.flatnonzero(is_last & (tail >= MIN_GAP_CHARS)).tolist():
        yield int(image[row]), int(end[row]), int(lengths[image[row]])


def with_tokens(
    loops: list[LoopFinding], entry: ImageEntry, vocabulary: NDArray[np.int64] | None
) -> list[LoopFinding]:
    """One image's loops with their places among its token ids, where it has them."""
    if entry.token_ids is None:
        return loops
    token_map = build_token_map(
        entry.text,
        entry.token_ids,
        vocabulary,
        ends_with_end_token=entry.finish_reason == "stop",
    )
    out = []
    for loop in loops:
        onset = token_map.token_at(loop.onset_char)
        wasted = max(token_map.tokens_until(loop.end_char) - onset, 0)
        out.append(replace(loop, onset_token=onset, wasted_tokens=wasted))
    return out


__all__ = ["MIN_PIECES", "LoopFinding", "find_loops", "text_loops", "with_tokens"]
