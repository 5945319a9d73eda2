"""How many tokens an answer may take: what the ground truth itself needs, with a margin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval.data.canonical import sample_text
from coordeval.data.foreign_text import writes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.coords import CoordFrame
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GroundTruthObject, Sample

_TEXTS_AT_ONCE = 1024


def needed_tokens(
    samples: Iterable[Sample], *, tokenizer: Any, dialect: Dialect, frame: CoordFrame
) -> int:
    """Tokens of the longest ground-truth answer, its end token included; 0 for no samples.

    Where a dialect has no form for a geometry, or for a name, the box around it, or the name as it
    is, gives the length.
    """
    longest = 0
    texts: list[str] = []
    for sample in samples:
        fitted = _writable(sample, dialect)
        text = sample_text(fitted, dialect=dialect, frame=frame, order="sorted", strict=False)
        texts.append(text)
        if len(texts) == _TEXTS_AT_ONCE:
            longest = max(longest, _longest(texts, tokenizer))
            texts = []
    return max(longest, _longest(texts, tokenizer))


def _writable(sample: Sample, dialect: Dialect) -> Sample:
    """The sample with boxes in place of geometries that the dialect cannot write."""
    if all(writes(dialect, obj.kind) for obj in sample.objects) or not writes(dialect, "bbox_2d"):
        return sample
    return replace(
        sample,
        objects=tuple(obj if writes(dialect, obj.kind) else _hull(obj) for obj in sample.objects),
    )


def _hull(obj: GroundTruthObject) -> GroundTruthObject:
    xs, ys = obj.values_px[0::2], obj.values_px[1::2]
    return obj._replace(kind="bbox_2d", values_px=(min(xs), min(ys), max(xs), max(ys)))


def _longest(texts: list[str], tokenizer: Any) -> int:
    if not texts:
        return 0
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return max(len(ids) for ids in encoded) + 1


__all__ = ["needed_tokens"]
