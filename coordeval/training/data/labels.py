"""An answer's tokens and what each of them is: description, coordinate, structure or the end.

Kinds are read off the characters of the canonical answer and the tokenizer's offsets, so they are
exact also where a character is several tokens. Shapes: T tokens with the end token, C characters,
M boxes.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordVocabulary

IGNORE, DESCRIPTION, COORDINATE, STRUCTURE, END = range(5)
"""Kinds of a position; IGNORE is what is not taught: prompt, image and padding."""
IGNORE_LABEL = -100

# In a canonical answer no quote stands bare inside a string, so keys cannot be mistaken.
_DESCRIPTION = re.compile(r'"desc": "((?:[^"\\]|\\.)*)"', re.DOTALL)
_BOX = re.compile(r'"bbox_2d": \[([^\]]*)\]')
_TEXTS_AT_ONCE = 1024


class Answer(NamedTuple):
    """One answer to be taught: ids (T), the end token last, their kinds (T, uint8), and boxes.

    `boxes_M4` holds, for each `bbox_2d` written in coordinate tokens, the indices of its four
    tokens; polygons and lines have none.
    """

    token_ids: list[int]
    kinds_T: NDArray[np.uint8]
    boxes_M4: NDArray[np.int64]


class AnswerLabeller:
    """Tokenises canonical answers and closes them with the end token.

    `vocabulary` None: a tokenizer without coordinate tokens, for dialects that write integers;
    those are structure. What looks like a special token inside a description is taught as the
    ordinary characters that it is, never as that token. Raises ValueError for a tokenizer that
    cannot tell where its tokens stand in the text.
    """

    def __init__(self, tokenizer: Any, vocabulary: CoordVocabulary | None, end_id: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError("labels need a fast tokenizer: it must give character offsets")
        self._tokenizer = tokenizer
        self._end_id = end_id
        self._coord_ids = np.array(() if vocabulary is None else vocabulary.token_ids)
        special = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) if special else r"(?!)")
        self._plain: dict[str, bool] = {}

    def label(self, text: str) -> Answer:
        """The answer of one canonical text; DataError where the text is not valid Unicode."""
        ids, starts, ends = self._tokenise(text)
        descriptions = [match.span(1) for match in _DESCRIPTION.finditer(text)]
        kinds = np.full(len(ids) + 1, STRUCTURE, dtype=np.uint8)
        kinds[:-1][_inside(starts, ends, descriptions, len(text))] = DESCRIPTION
        is_coordinate = np.isin(ids, self._coord_ids)
        kinds[:-1][is_coordinate] = COORDINATE
        kinds[-1] = END
        places = np.flatnonzero(is_coordinate)
        boxes = [
            places[(starts[places] >= first) & (ends[places] <= last)]
            for first, last in (match.span(1) for match in _BOX.finditer(text))
        ]
        quartets = [box for box in boxes if len(box) == 4]
        return Answer(
            token_ids=[*ids.tolist(), self._end_id],
            kinds_T=kinds,
            boxes_M4=np.array(quartets, dtype=np.int64).reshape(-1, 4),
        )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has with its end token, without labelling them."""
        out: list[int] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            chunk = texts[start : start + _TEXTS_AT_ONCE]
            if any(self._holds_special(text) for text in chunk):
                out += [len(self._tokenise(text)[0]) + 1 for text in chunk]
            else:
                encoded = self._encode([*chunk])["input_ids"]
                out += [len(ids) + 1 for ids in encoded]
        return out

    def _holds_special(self, text: str) -> bool:
        return any(self._is_special(match.group(1)) for match in _DESCRIPTION.finditer(text))

    def _is_special(self, description: str) -> bool:
        known = self._plain.get(description)
        if known is None:
            known = self._plain[description] = self._special.search(description) is not None
        return known

    def _cuts(self, text: str) -> Iterator[int]:
        """Behind the first character of whatever in a description would become a special token."""
        for match in _DESCRIPTION.finditer(text):
            if not self._is_special(match.group(1)):
                continue
            at = match.start(1)
            while (found := self._special.search(text, at, match.end(1))) is not None:
                at = found.start() + 1
                yield at

    def _tokenise(
        self, text: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, and where each token starts and ends in the text (characters)."""
        cuts = [0, *self._cuts(text), len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        encoded = self._encode(pieces, return_offsets_mapping=True)
        ids = np.concatenate([np.array(part, dtype=np.int64) for part in encoded["input_ids"]])
        offsets = np.concatenate(
            [
                np.array(part, dtype=np.int64).reshape(-1, 2) + cut
                for part, cut in zip(encoded["offset_mapping"], cuts[:-1], strict=True)
            ]
        )
        return ids, offsets[:, 0], offsets[:, 1]

    def _encode(self, texts: list[str], **options: Any) -> Any:
        try:
            return self._tokenizer(texts, add_special_tokens=False, **options)
        except (TypeError, UnicodeEncodeError):  # lone surrogates: no UTF-8 form
            raise DataError("a description is not valid Unicode") from None


def _inside(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    spans: Sequence[tuple[int, int]],
    num_chars: int,
) -> NDArray[np.bool_]:
    """Which tokens lie wholly inside one of the spans."""
    marked_C = np.zeros(num_chars + 1, dtype=np.int64)
    for first, last in spans:
        marked_C[first + 1 : last + 1] = 1
    before = np.cumsum(marked_C)
    inside: NDArray[np.bool_] = (ends > starts) & (before[ends] - before[starts] == ends - starts)
    return inside


__all__ = [
    "COORDINATE",
    "DESCRIPTION",
    "END",
    "IGNORE",
    "IGNORE_LABEL",
    "STRUCTURE",
    "Answer",
    "AnswerLabeller",
]
