"""Where a clean target pushes down the token that leads into a repeat.

At the place where the target leaves a repeat out, the model's own words for it are laid beside the
target's: the first token in which they differ is to be less probable there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.training.stage2.targets_prefix import lead_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.training.stage2.judged import Judged
    from coordeval.training.stage2.reading import ReadRollout
    from coordeval.training.stage2.target_context import TargetContext
    from coordeval.training.stage2.targets_clean import CleanTarget


class Unlikely(NamedTuple):
    """Tokens to be less probable, and what became of the other suppressed repeats.

    `places_U2` (int64): index of the label's position in the target, and the token's id; each pair
    once. `merged` repeats lead to a pair that an earlier one has already; with `no_divergence` the
    repeat's words are the target's, or leave them for what is taught there.
    """

    places_U2: NDArray[np.int64]
    merged: int
    no_divergence: int


def unlikely_places(
    reading: ReadRollout, judged: Judged, clean: CleanTarget, context: TargetContext
) -> Unlikely:
    """One place for each suppressed repeat of a rollout whose words leave the clean target."""
    places: dict[tuple[int, int], None] = {}
    merged = no_divergence = 0
    for boundary, index in _repeats(judged):
        place = _divergence(boundary, index, reading, judged, clean, context)
        if place is None:
            no_divergence += 1
        elif place in places:
            merged += 1
        places |= {} if place is None else {place: None}
    return Unlikely(np.array(list(places), dtype=np.int64).reshape(-1, 2), merged, no_divergence)


def _repeats(judged: Judged) -> Iterator[tuple[int | None, int]]:
    """Each suppressed object, and the last one before it that the target keeps (None: none)."""
    boundary = None
    for index, found in enumerate(judged.found):
        if found.suppressed:
            yield boundary, index
        elif found.true_index is not None:
            boundary = index


def _divergence(
    boundary: int | None,
    index: int,
    reading: ReadRollout,
    judged: Judged,
    clean: CleanTarget,
    context: TargetContext,
) -> tuple[int, int] | None:
    """(Position, token) where the repeat's words leave the target behind the boundary."""
    start, end, place = 0, clean.inside, 0
    if boundary is not None:
        entry = next(n for n, one in enumerate(clean.entries) if one.found == boundary)
        start, end, place = clean.records[entry].start, clean.records[entry].end, entry + 1
    at = clean.written.cut_before_punctuation(end, not_before=start)
    record, own = judged.found[index].record, reading.written
    # The border is written as it is in the target; behind it stand the model's own tokens.
    border = own.cut_after(record.start + 1)
    shown = clean.written.text[at.char : end] + lead_text(context.dialect, place, place + 1)
    shown += own.text[record.start : border.char]
    words = context.tokenise(shown)
    _, behind = own.tokens(record.start, record.end)
    # What stands behind the repeat in its last token is none of its words.
    if own.token_starts[behind] > own.byte_at(record.end):
        behind -= 1
    words += own.token_ids[border.token : behind]
    target = clean.taught.token_ids[at.token :]
    for step, (word, instead) in enumerate(zip(words, target, strict=False)):
        if word != instead:
            position = at.token + step
            taught = int(clean.taught.labels_T[position])
            return None if word == taught else (position, word)
    return None


__all__ = ["Unlikely", "unlikely_places"]
