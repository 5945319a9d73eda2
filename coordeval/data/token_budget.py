"""How many tokens the ground truth needs, and so how many a rollout must be allowed to write."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.coords import FRAMES, CoordFrame
from coordeval.data.canonical import sample_text
from coordeval.parsers.dialects import DIALECTS, Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from coordeval.data.ordering import ObjectOrder
    from coordeval.records import GroundTruthObject, Sample

MARGIN = 1.5
"""A rollout may need more than the ground truth: a wrong object or two must not truncate it."""
MINIMUM_TOKENS = 256
STEP_TOKENS = 64
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBudget:
    """Tokens of the canonical answers, the end token included; None where there are no samples.

    `recommended_max_new_tokens` is what `coordeval rollout` takes by default for such answers
    (`default_max_new_tokens`). `estimated` says that no tokenizer was at hand.
    """

    num_samples: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: int | None
    recommended_max_new_tokens: int | None
    estimated: bool

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def token_budget(
    samples: Iterable[Sample],
    tokenizer: Any | None = None,
    *,
    dialect: Dialect = DIALECTS["coordjson"],
    frame: CoordFrame = FRAMES["coordexp"],
    order: ObjectOrder = "sorted",
) -> TokenBudget:
    """Count the tokens of every sample's canonical answer (crowd left out) plus one end token.

    `samples` may be a Dataset. `tokenizer` is a Hugging Face tokenizer or a
    `tokenizers.Tokenizer`; without one the lengths are estimated from the structure, rather too
    long than too short.
    """
    if tokenizer is None:
        lengths = [estimate_tokens(sample.objects, dialect) + 1 for sample in samples]
    else:
        lengths = []
        for batch in _batched(samples):
            texts = [
                sample_text(sample, dialect=dialect, frame=frame, order=order) for sample in batch
            ]
            lengths += [count + 1 for count in _count_tokens(tokenizer, texts)]
    return _summary(lengths, estimated=tokenizer is None)


def estimate_tokens(objects: Sequence[GroundTruthObject], dialect: Dialect) -> int:
    """Tokens of an answer without a tokenizer, the end token not counted.

    A coordinate token counts 1 (quoted 3; integers by their digits, at most 4), each `", "`
    between them 2, a description a token per 3 bytes of UTF-8 and at least 1, and the keys,
    quotes and brackets of a record 18.
    """
    per_coordinate = {"token": 1, "quoted_token": 3, "bin_int": 3, "pixel_int": 4}
    total = 8
    for obj in objects:
        if obj.iscrowd:
            continue
        count = len(obj.values_px)
        total += count * per_coordinate[dialect.coordinates] + 2 * (count - 1)
        total += max(1, math.ceil(len(obj.desc.encode("utf-8", "surrogatepass")) / 3)) + 18
        if dialect.container == "map":
            total += 6
    return total


def _batched(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _count_tokens(tokenizer: Any, texts: list[str]) -> list[int]:
    if callable(tokenizer):
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [len(ids) for ids in encoded]
    return [len(item.ids) for item in tokenizer.encode_batch(texts, add_special_tokens=False)]


def default_max_new_tokens(longest: int) -> int:
    """The longest answer times 1.5, rounded up to a multiple of 64, and never below 256.

    The margin leaves room for a few objects more than were annotated; a model that repeats itself
    still runs into the limit soon.
    """
    return max(MINIMUM_TOKENS, math.ceil(longest * MARGIN / STEP_TOKENS) * STEP_TOKENS)


def token_limit(given: int | None, needed: int | None, notify: Callable[[str], None]) -> int:
    """The limit that was given, with a warning where it is too small; else one from the data."""
    if given is None:
        return MINIMUM_TOKENS if needed is None else default_max_new_tokens(needed)
    if needed is not None and given < needed:
        notify(
            f"max-new-tokens {given} is too small: the longest ground-truth answer needs {needed} "
            f"tokens (default here: {default_max_new_tokens(needed)})"
        )
    return given


def _summary(lengths: list[int], *, estimated: bool) -> TokenBudget:
    if not lengths:
        return TokenBudget(
            num_samples=0,
            mean=None,
            p50=None,
            p90=None,
            p99=None,
            max=None,
            recommended_max_new_tokens=None,
            estimated=estimated,
        )
    p50, p90, p99 = (float(value) for value in np.percentile(lengths, [50, 90, 99]))
    longest = max(lengths)
    return TokenBudget(
        num_samples=len(lengths),
        mean=float(np.mean(lengths)),
        p50=p50,
        p90=p90,
        p99=p99,
        max=longest,
        recommended_max_new_tokens=default_max_new_tokens(longest),
        estimated=estimated,
    )


__all__ = [
    "MINIMUM_TOKENS",
    "TokenBudget",
    "default_max_new_tokens",
    "estimate_tokens",
    "token_budget",
    "token_limit",
]
