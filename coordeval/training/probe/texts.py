"""Texts as token ids with what stands where: coordinate slots, descriptions, structure."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from coordeval.data.canonical import sample_text
from coordeval.decoding.slots import SlotPlace, find_slots
from coordeval.engines.hf_text import decode_verbatim
from coordeval.training.diagnostics.values import COORDINATE, DESCRIPTION, NO_BIN, STRUCTURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout, Sample

Origin = Literal["canonical", "token_ids", "retokenised"]
# The inside of a description; no quote stands bare inside a JSON string, so keys are not mistaken.
_DESCRIPTION = re.compile(rb'"desc"[ \t\n\r]*+:[ \t\n\r]*+"((?:[^"\\]|\\.)*+)', re.DOTALL)


class ProbeText(NamedTuple):
    """One answer to be forced on the model.

    `kinds` and `bins` (tokens): what `Targets` holds. `places` (slots): the geometry that each slot
    stands in, None for a coordinate token outside of all lists. `true_bins` (slots) are the bins
    of the ground-truth box that the slot's record matched (in a ground-truth text: that was
    matched), NO_BIN elsewhere; `objects` (slots) which object of the sample that is, else -1.
    `origin` says where the ids come from.
    """

    token_ids: list[int]
    kinds: NDArray[np.int64]
    bins: NDArray[np.int64]
    places: list[SlotPlace | None]
    true_bins: NDArray[np.int64]
    objects: NDArray[np.int64]
    origin: Origin

    @property
    def slot_tokens(self) -> NDArray[np.int64]:
        """Indices of the tokens that are slots."""
        return np.flatnonzero(self.kinds == COORDINATE)


class TextMaker:
    """Makes texts for one tokenizer and dialect."""

    def __init__(
        self, reader: Reader, table: TokenTable, dialect: Dialect, frame: CoordFrame
    ) -> None:
        self._reader, self._table = reader, table
        self._dialect, self._frame = dialect, frame

    def ground_truth(self, sample: Sample) -> ProbeText:
        """The canonical answer with its end token, as training teaches it (objects sorted)."""
        text = sample_text(sample, dialect=self._dialect, frame=self._frame, order="sorted")
        token_ids = [*self._tokenise(text), self._reader.end_id]
        return self._put_together(token_ids, "canonical")

    def own_rollout(self, rollout: Rollout) -> ProbeText | None:
        """What a model wrote: its own token ids, or its text tokenised anew; None for nothing.

        Ids are used where this tokenizer decodes them to the stored text, so that ids of another
        vocabulary are never mistaken. A text that is tokenised anew ends with the end token where
        the finish reason says so. Raises ValueError for a text that is not valid Unicode.
        """
        token_ids, origin = self._own_ids(rollout)
        if not token_ids:
            return None
        return self._put_together(token_ids, origin)

    def _tokenise(self, text: str) -> list[int]:
        return list(self._reader.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _own_ids(self, rollout: Rollout) -> tuple[list[int], Origin]:
        if rollout.token_ids:
            token_ids = [int(token_id) for token_id in rollout.token_ids]
            ended = token_ids[-1] in self._reader.end_ids
            if all(0 <= token_id < self._table.vocab_size for token_id in token_ids):
                written = token_ids[:-1] if ended else token_ids
                if decode_verbatim(written, self._reader.tokenizer) == rollout.text:
                    return token_ids, "token_ids"
        try:
            rollout.text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("the text is not valid Unicode") from None
        token_ids = self._tokenise(rollout.text)
        if rollout.finish_reason == "stop":
            token_ids.append(self._reader.end_id)
        return token_ids, "retokenised"

    def _put_together(self, token_ids: list[int], origin: Origin) -> ProbeText:
        # As in training, every coordinate token is a slot, found from the labels alone; in free
        # text so is every place where a coordinate is expected and something else stands.
        places = {place.token: place for place in find_slots(token_ids, self._table, self._dialect)}
        bins = self._table.coords.bins_of(token_ids)
        slot_tokens = np.union1d(np.flatnonzero(bins != NO_BIN), np.array([*places], dtype=int))
        kinds = np.full(len(token_ids), STRUCTURE, dtype=np.int64)
        kinds[description_tokens(token_ids, self._table)] = DESCRIPTION
        kinds[slot_tokens] = COORDINATE
        return ProbeText(
            token_ids=token_ids,
            kinds=kinds,
            bins=bins,
            places=[places.get(int(token)) for token in slot_tokens],
            true_bins=np.full(len(slot_tokens), NO_BIN, dtype=np.int64),
            objects=np.full(len(slot_tokens), -1, dtype=np.int64),
            origin=origin,
        )


def description_tokens(token_ids: Sequence[int], table: TokenTable) -> NDArray[np.int64]:
    """Indices of the tokens that hold at least one byte of a description.

    A token that also holds a quote counts too. In broken text a description that is not closed
    goes on to the next quote.
    """
    pieces = [table.text_bytes(int(token_id)) for token_id in token_ids]
    ends = np.array(list(accumulate(map(len, pieces))), dtype=np.int64)
    starts = ends - np.array([len(piece) for piece in pieces], dtype=np.int64)
    inside = np.zeros(len(pieces), dtype=bool)
    for match in _DESCRIPTION.finditer(b"".join(pieces)):
        inside |= (starts < match.end(1)) & (ends > match.start(1))
    return np.flatnonzero(inside)


__all__ = ["Origin", "ProbeText", "TextMaker", "description_tokens"]
