"""Where characters of a text lie among its token ids, without a tokenizer.

Coordinate tokens are the fixed points: the i-th `<|coord_k|>` of the text is the i-th coordinate
id. Between two of them places are interpolated by characters; that is exact at the fixed points
and within a token or two elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from coordeval.coords import COORD_TOKEN_RE, NUM_BINS
from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_TOO_LARGE = 2**31
"""Token ids are 32-bit numbers everywhere; larger ones in a file are no ids."""


def vocabulary_from_meta(meta: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """Token ids of the 1000 bins that run.json declares ({"first": id} or {"ids": [...]}).

    None where it declares none; DataError where it declares something else.
    """
    raw = meta.get("vocabulary")
    if not raw:
        return None
    ids: object = None
    if isinstance(raw, dict):
        first = raw.get("first")
        ids = range(first, first + NUM_BINS) if _is_id(first) else raw.get("ids")
    if isinstance(ids, (list, range)) and all(map(_is_id, ids)) and len(set(ids)) == NUM_BINS:
        return np.array(ids, dtype=np.int64)
    raise DataError(
        'run.json: \'vocabulary\' must be {"first": id} or {"ids": [1000 distinct ids]}'
    )


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _TOO_LARGE


class VocabularyVotes:
    """Contiguous coordinate ids guessed from texts and token ids of one run, as they come.

    A first id fits a rollout where the ids of its window of 1000 equal the bins that the text
    writes. The id that fits most of the first `enough` rollouts with coordinates is taken; None
    where none fits, or two fit equally often.
    """

    def __init__(self, enough: int = 32) -> None:
        self._votes: Counter[int] = Counter()
        self._missing = enough

    @property
    def is_open(self) -> bool:
        """Whether more rollouts are asked for."""
        return self._missing > 0

    def add(self, text: str, ids: NDArray[np.int64]) -> bool:
        """Look at one rollout while votes are open; True where it holds coordinates, and counts."""
        bins = bins_in_text(text)
        if not len(bins):
            return False
        offered = np.unique(ids - bins[0]).tolist()
        self._votes.update(first for first in offered if _fits(ids, first, bins))
        self._missing -= 1
        return True

    def vocabulary(self) -> NDArray[np.int64] | None:
        """The 1000 ids that won."""
        ranking = self._votes.most_common(2)
        if not ranking or (len(ranking) == 2 and ranking[0][1] == ranking[1][1]):
            return None
        first = ranking[0][0]
        return np.arange(first, first + NUM_BINS, dtype=np.int64)


def _fits(ids: NDArray[np.int64], first: int, bins: NDArray[np.int64]) -> bool:
    shifted = ids - first
    shifted = shifted[(shifted >= 0) & (shifted < NUM_BINS)]
    return len(shifted) == len(bins) and bool(np.array_equal(shifted, bins))


def bins_in_text(text: str) -> NDArray[np.int64]:
    """The bins of all coordinate tokens that a text writes, in order."""
    return np.array([int(k) for k in COORD_TOKEN_RE.findall(text)], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMap:
    """Fixed points between a text and its ids.

    `char_start`, `char_end`, `token` (C) describe the coordinate tokens. Between them places are
    interpolated by bytes, which is what byte-level tokenizers spend tokens on: `byte_of_char`
    (characters + 1) is where each character starts in the UTF-8 form. `fixed_byte`, `fixed_token`
    (2 C + 2) are the fixed points, both ends among them. `num_tokens` leaves out the final end
    token. `aligned` is False where the counts disagree and only the ends are fixed.
    """

    char_start: NDArray[np.int64]
    char_end: NDArray[np.int64]
    token: NDArray[np.int64]
    byte_of_char: NDArray[np.int64]
    fixed_byte: NDArray[np.float64]
    fixed_token: NDArray[np.float64]
    num_tokens: int
    aligned: bool

    def token_at(self, char: int) -> int:
        """The token that starts at the character `char` (num_tokens for the end of the text)."""
        return round(self._place(char))

    def tokens_until(self, char: int) -> int:
        """How many tokens start before the character `char`."""
        return math.ceil(self._place(char) - 1e-6)

    def _place(self, char: int) -> float:
        return float(np.interp(self.byte_of_char[char], self.fixed_byte, self.fixed_token))


def build_token_map(
    text: str,
    token_ids: NDArray[np.int64],
    vocabulary: NDArray[np.int64] | None,
    *,
    ends_with_end_token: bool,
) -> TokenMap:
    """Fixed points of one rollout; `vocabulary` (1000) are the ids of the bins, or None."""
    num_tokens = len(token_ids) - int(ends_with_end_token and len(token_ids) > 0)
    spans = np.array([match.span() for match in COORD_TOKEN_RE.finditer(text)], dtype=np.int64)
    spans = spans.reshape(-1, 2)
    places = np.zeros(0, dtype=np.int64)
    if vocabulary is not None:
        places = np.flatnonzero(np.isin(token_ids, vocabulary))
    aligned = vocabulary is not None and len(places) == len(spans)
    if not aligned:
        spans, places = spans[:0], places[:0]
    byte_of_char = _byte_offsets(text)
    fixed_byte, fixed_token = np.empty(2 * len(places) + 2), np.empty(2 * len(places) + 2)
    fixed_byte[0] = fixed_token[0] = 0
    fixed_byte[1:-1:2], fixed_byte[2:-1:2] = byte_of_char[spans[:, 0]], byte_of_char[spans[:, 1]]
    fixed_token[1:-1:2], fixed_token[2:-1:2] = places, places + 1
    fixed_byte[-1], fixed_token[-1] = byte_of_char[-1], num_tokens
    return TokenMap(
        char_start=spans[:, 0],
        char_end=spans[:, 1],
        token=places,
        byte_of_char=byte_of_char,
        fixed_byte=fixed_byte,
        fixed_token=fixed_token,
        num_tokens=num_tokens,
        aligned=aligned,
    )


def _byte_offsets(text: str) -> NDArray[np.int64]:
    """Where each character starts in the UTF-8 form of the text, and its length at the end."""
    if text.isascii():
        return np.arange(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate([[0], np.cumsum(lengths)])


__all__ = [
    "TokenMap",
    "VocabularyVotes",
    "bins_in_text",
    "build_token_map",
    "vocabulary_from_meta",
]
