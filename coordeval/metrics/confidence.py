"""One score per prediction, and where it comes from.

Sources: `scores` (the rollout line brings one per found record), `logprob` (exp of the mean raw
log-probability of the box's coordinate tokens), `fused` (0.7 of that + 0.3 of the same over the
description), `order` (1 / (1 + emission rank)), `constant` (1.0). `auto` takes `scores`, else
`logprob` where every prediction of the run has one, else `constant`.

The description part of `fused` is the mean over the tokens between the preceding coordinate token
(or the start of the text) and the box's first one, or, where the geometry stands first, between the
box's last one and the next (or the end): without a tokenizer the name cannot be told from the
signs around it, whose probabilities are close to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from coordeval.coords import COORD_TOKEN_RE
from coordeval.errors import ConfigError, DataError
from coordeval.metrics.token_map import build_token_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, ImageEntry
    from coordeval.metrics.token_map import TokenMap

ScoreSource = Literal["auto", "scores", "logprob", "fused", "order", "constant"]
SCORE_SOURCES: tuple[str, ...] = get_args(ScoreSource)
BOX_WEIGHT, DESC_WEIGHT = 0.7, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Scores of the predictions (rows of `PredColumns`) and the source that gave them."""

    values: NDArray[np.float64]
    source: str


def confidence(columns: Columns, source: str, logprob: NDArray[np.float64] | None) -> Confidence:
    """Scores for all predictions of a run; `logprob` are those of `logprob` or `fused`, if any.

    Raises ConfigError for an unknown source, or for a named one that this run cannot give;
    DataError where some rollouts bring `scores` and others that hold records do not.
    """
    if source not in SCORE_SOURCES:
        raise ConfigError(f"unknown score source {source!r}: use one of {', '.join(SCORE_SOURCES)}")
    num = len(columns.pred)
    if source == "order":
        return Confidence(values=1.0 / (1.0 + emission_rank(columns)), source="order")
    if source == "constant":
        return Confidence(values=np.ones(num), source="constant")
    if source in ("auto", "scores"):
        given = _given_scores(columns)
        if given is not None:
            return Confidence(values=given, source="scores")
    if source in ("auto", "logprob", "fused") and logprob is not None:
        return Confidence(values=logprob, source="fused" if source == "fused" else "logprob")
    if source != "auto":
        needed = "'scores'" if source == "scores" else "aligned 'token_ids' and 'token_logprobs'"
        raise ConfigError(
            f"score source {source!r} needs {needed} in every rollout line with predictions; "
            "use --scores auto"
        )
    return Confidence(values=np.ones(num), source="constant")


def emission_rank(columns: Columns) -> NDArray[np.float64]:
    """Per prediction its 0-based rank among the scored predictions of its image."""
    image = columns.pred.shapes.image
    first = np.searchsorted(image, image, side="left")
    return np.asarray(np.arange(len(image)) - first, dtype=np.float64)


def _given_scores(columns: Columns) -> NDArray[np.float64] | None:
    with_records = [entry for entry in columns.images if entry.num_found]
    having = [entry for entry in with_records if entry.has_scores]
    if not having:
        return None
    if len(having) != len(with_records):
        lacking = next(entry for entry in with_records if not entry.has_scores)
        raise DataError(
            f"id {lacking.id!r} has no 'scores' while {having[0].id!r} has them; "
            "give them for every rollout or for none"
        )
    return columns.record_scores[columns.pred.record]


def image_scores(
    entry: ImageEntry,
    objects: Sequence[tuple[int, int, tuple[int, ...]]],
    vocabulary: NDArray[np.int64],
    *,
    fused: bool,
) -> list[float] | None:
    """Exp of the mean log-probability of each box of one image; None unless every one has one.

    `objects` are start, end (characters) and values of its predictions.
    """
    ids, logprobs = entry.token_ids, entry.token_logprobs
    if ids is None or logprobs is None or len(ids) != len(logprobs):
        return None
    text = entry.text
    token_map = build_token_map(
        text, ids, vocabulary, ends_with_end_token=entry.finish_reason == "stop"
    )
    if not token_map.aligned:
        return None
    out: list[float] = []
    for start, end, values in objects:
        slots = geometry_slots(text, token_map, start, end, values)
        if slots is None:
            return None
        chosen = logprobs[token_map.token[slots[0] : slots[1]]]
        if not np.isfinite(chosen).all():
            return None
        score = float(np.exp(chosen.mean()))
        if fused:
            first_char = int(token_map.char_start[slots[0]])
            desc_first = '"desc"' in text[start:first_char]
            desc = _desc_score(logprobs, token_map, *slots, desc_first=desc_first)
            score = BOX_WEIGHT * score + DESC_WEIGHT * desc
        out.append(score)
    return out


def geometry_slots(
    text: str, token_map: TokenMap, start: int, end: int, values: tuple[int, ...]
) -> tuple[int, int] | None:
    """Which coordinate tokens of the text (from, to) are the record's geometry list.

    A description may hold coordinate tokens of its own; the list is the run of tokens that
    spells `values` and is closed by a bracket. None where there is no such run.
    """
    low = int(np.searchsorted(token_map.char_start, start, side="left"))
    high = int(np.searchsorted(token_map.char_end, end, side="right"))
    count = len(values)
    if high - low == count:
        return low, high
    spelled = [int(k) for k in COORD_TOKEN_RE.findall(text[start:end])]
    for offset in range(len(spelled) - count, -1, -1):
        last = int(token_map.char_end[low + offset + count - 1])
        if tuple(spelled[offset : offset + count]) == values and text[last:end].lstrip(
            ' "'
        ).startswith("]"):
            return low + offset, low + offset + count
    return None


def _desc_score(
    logprobs: NDArray[np.float64], token_map: TokenMap, slot: int, end: int, *, desc_first: bool
) -> float:
    place = token_map.token
    if desc_first:
        tokens = logprobs[int(place[slot - 1]) + 1 if slot else 0 : int(place[slot])]
    else:
        until = int(place[end]) if end < len(place) else token_map.num_tokens
        tokens = logprobs[int(place[end - 1]) + 1 : until]
    return float(np.exp(tokens.mean())) if len(tokens) else 1.0


def tied_fraction(scores: NDArray[np.float64]) -> float | None:
    """Share of predictions whose score another prediction of the run has too; None without any."""
    if not len(scores):
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return float(np.mean(counts[inverse] > 1))


__all__ = [
    "BOX_WEIGHT",
    "DESC_WEIGHT",
    "SCORE_SOURCES",
    "Confidence",
    "ScoreSource",
    "confidence",
    "emission_rank",
    "geometry_slots",
    "image_scores",
    "tied_fraction",
]
