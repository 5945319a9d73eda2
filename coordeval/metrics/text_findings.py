"""What only texts and tokens can tell, found while they are at hand: repeats, loops, confidences.

Everything here is a question to one image, asked part by part (`collect`); what stays is some
bytes per record. Which token ids are coordinates may be known only after some images (see
`VocabularyVotes`): the few that vote wait with their tokens until then, all others don't need it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.metrics.compact import Numbers
from coordeval.metrics.confidence import image_scores
from coordeval.metrics.duplicates import Duplicates, find_duplicates
from coordeval.metrics.loops import text_loops, with_tokens
from coordeval.metrics.token_map import VocabularyVotes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.columns import ImageEntry, WrittenPart
    from coordeval.metrics.loops import LoopFinding

    Objects = Sequence[tuple[int, int, tuple[int, ...]]]


class _Waiting(NamedTuple):
    """An image whose tokens are still needed; its predictions start at `first_score`."""

    entry: ImageEntry
    loops: list[LoopFinding]
    objects: Objects
    first_score: int


class TextFindings:
    """Repeats, loops and log-probability scores of a run, gathered part by part.

    `name_of` gives the normalised form of a description, `vocabulary` the ids of the bins (None:
    they are inferred), `score_source` is what `confidence` will be asked for.
    """

    def __init__(
        self,
        name_of: dict[str, str],
        vocabulary: NDArray[np.int64] | None,
        score_source: str,
    ) -> None:
        self._name_of = name_of
        self._vocabulary = vocabulary
        self._votes = VocabularyVotes() if vocabulary is None else None
        self._fused = score_source == "fused"
        self._automatic = score_source == "auto"
        self._scoring = score_source in ("auto", "logprob", "fused")
        self._scores = Numbers(np.float64)
        self._waiting: list[_Waiting] = []
        self._loops: dict[int, list[LoopFinding]] = {}
        self._key = Numbers(np.int32)
        self._readable, self._exact, self._near = (Numbers(np.bool_) for _ in range(3))

    def read(self, part: WrittenPart) -> None:
        """Look at some images, in the order of the run, and pack them."""
        found = find_duplicates(part, self._name_of)
        loops = text_loops(part, found.key, found.readable)
        self._key.extend(found.key + len(self._key))
        self._readable.extend(found.readable)
        self._exact.extend(found.exact)
        self._near.extend(found.near)
        objects = self._objects(part)
        for row, entry in enumerate(part.images):
            mine = [replace(loop, image=entry.index) for loop in loops.get(row, ())]
            image = _Waiting(entry, mine, objects[row], len(self._scores))
            self._scores.extend(np.full(len(objects[row]), np.nan))
            if self._votes_with(entry):
                self._waiting.append(image)
            else:
                self._settle(image)
            if self._votes is not None and not self._votes.is_open:
                self._decide()

    def _objects(self, part: WrittenPart) -> list[list[tuple[int, int, tuple[int, ...]]]]:
        """Per image its predictions that would get a score from log-probabilities."""
        out: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in part.images]
        if not self._scoring:
            return out
        records = part.records
        rows = zip(
            records.image,
            records.start,
            records.end,
            records.values,
            records.kind,
            records.reason,
            strict=True,
        )
        for image, start, end, values, kind, reason in rows:
            if reason is None and kind != "line":
                out[image].append((start, end, values or ()))
        return out

    def _votes_with(self, entry: ImageEntry) -> bool:
        """Let an image vote; True where it does, and so may need what is voted on.

        An image without coordinates in its text has the same token map under any vocabulary, and
        no scores.
        """
        if self._votes is None or entry.token_ids is None:
            return False
        return self._votes.add(entry.text, entry.token_ids)

    def _decide(self) -> None:
        """Close the votes and settle those that wait."""
        assert self._votes is not None
        self._vocabulary, self._votes = self._votes.vocabulary(), None
        for image in self._waiting:
            self._settle(image)
        self._waiting = []

    def _settle(self, image: _Waiting) -> None:
        """All that needs the tokens of an image, after which they go."""
        entry = image.entry
        if image.loops:
            self._loops[entry.index] = with_tokens(image.loops, entry, self._vocabulary)
        if entry.num_found and entry.has_scores and self._automatic:
            self._scoring = False  # these are taken, or are an error
        if self._scoring and image.objects:
            values = None
            if self._vocabulary is not None:
                values = image_scores(entry, image.objects, self._vocabulary, fused=self._fused)
            if values is None:
                self._scoring = False
            else:
                self._scores.put(image.first_score, values)
        entry.pack()

    def finish(self) -> None:
        """Nothing more comes: settle what waits."""
        if self._votes is not None:
            self._decide()

    def duplicates(self) -> Duplicates:
        """Per record of the run, what it repeats."""
        return Duplicates(
            key=self._key.array(),
            readable=self._readable.array(),
            exact=self._exact.array(),
            near=self._near.array(),
        )

    def loops(self) -> list[LoopFinding]:
        """All loops, by image and place."""
        return [loop for image in sorted(self._loops) for loop in self._loops[image]]

    def logprob(self) -> NDArray[np.float64] | None:
        """Scores of all predictions, before any is left out; None unless every one has one."""
        if not self._scoring or self._vocabulary is None or not len(self._scores):
            return None
        return self._scores.array()


__all__ = ["TextFindings"]
