"""How many tokens an answer may take: what the ground truth itself needs, with a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.data.canonical import sample_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.coords import CoordFrame
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample

_TEXTS_AT_ONCE = 1024


def needed_tokens(
    samples: Iterable[Sample], *, tokenizer: Any, dialect: Dialect, frame: CoordFrame
) -> int:
    """Tokens of the longest ground-truth answer, its end token included; 0 for no samples."""
    longest = 0
    texts: list[str] = []
    for sample in samples:
        texts.append(sample_text(sample, dialect=dialect, frame=frame, order="sorted"))
        if len(texts) == _TEXTS_AT_ONCE:
            longest = max(longest, _longest(texts, tokenizer))
            texts = []
    return max(longest, _longest(texts, tokenizer))


def _longest(texts: list[str], tokenizer: Any) -> int:
    if not texts:
        return 0
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return max(len(ids) for ids in encoded) + 1


__all__ = ["needed_tokens"]
