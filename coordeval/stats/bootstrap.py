"""The paired bootstrap over images: weights, intervals, p-values and what could have been seen.

Images are drawn with replacement, as many as there are (Efron & Tibshirani 1993, ch. 6 and 13);
both runs of a pair get the same draw. A draw is a row of whole weights: how often each image
stands in the resampled data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
# Two-sided 5 % and 80 % power under a normal approximation: 1.960 + 0.842 standard errors.
DETECTABLE_ERRORS = 2.8016
LEAST_SHARE_OF_DRAWS = 0.5
DRAWS_AT_ONCE = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the draws say about one difference B - A.

    `low`, `high`: percentile interval. `p`: two-sided. `detectable`: the smallest true difference
    that 8 of 10 such comparisons would show; None where the draws do not vary. `draws`: how many
    had a value on both sides. All None where too few had.
    """

    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    draws: int


def draw_weights(
    num_images: int, num_draws: int, seed: int, order: NDArray[np.int64] | None = None
) -> NDArray[np.integer[Any]]:
    """Weights (draws, images), each row summing to the number of images; no images, no columns.

    `order` says at which place of a canonical order each image stands, so that the same images
    get the same weights in whatever order a run has them. A weight takes one byte, unless an image
    is drawn so often that it does not fit.
    """
    rng = np.random.default_rng(seed)
    weights: NDArray[np.integer[Any]] = np.zeros((num_draws, num_images), dtype=np.uint8)
    if num_images == 0:
        return weights
    for row in range(num_draws):
        chosen = rng.integers(0, num_images, size=num_images)
        times = np.bincount(chosen, minlength=num_images)
        if times.max() > np.iinfo(weights.dtype).max:
            weights = weights.astype(np.int32)
        weights[row] = times if order is None else times[order]
    return weights


def drawn_parts(weights: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
    """Every image once, then the draws of `weights` (draws, images), some rows at a time.

    Always as many at a time: the last digits of sums of fractions depend on it.
    """
    for first in range(0, len(weights) + 1, DRAWS_AT_ONCE):
        rows = weights[max(first - 1, 0) : first + DRAWS_AT_ONCE - 1].astype(np.float64)
        yield rows if first else np.concatenate([np.ones((1, weights.shape[1])), rows])


def with_whole(weights: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The draws (draws, images) behind a row in which every image stands once."""
    return np.concatenate([np.ones((1, weights.shape[1]), dtype=weights.dtype), weights])


def weighted_sums(weights: NDArray[np.integer[Any]], table: Any) -> NDArray[np.int64]:
    """Sums of the rows of a sparse table of counts (images, N) under each draw: (draws, N)."""
    # As the product of the whole lies in memory: what is summed up later keeps its order.
    out = np.zeros((len(weights), table.shape[1]), dtype=np.int64, order="F")
    for first in range(0, len(weights), 16):
        out[first : first + 16] = weights[first : first + 16].astype(np.int64) @ table
    return out


def evidence(
    delta: float, replicates: NDArray[np.float64], *, images_differ: int | None = None
) -> Evidence:
    """Judge a difference by its replicates (draws; NaN where a side had no value).

    `images_differ` is the number of images on which the two runs differ in what the metric is
    made of. p is twice the smaller share of replicates on either side of 0, (count + 1) /
    (draws + 1); where none crosses 0, a normal tail if that is smaller; and never below what
    an exact sign test over the differing images can reach, 2^(1 - n).
    """
    known = replicates[~np.isnan(replicates)]
    if len(known) < max(2, LEAST_SHARE_OF_DRAWS * len(replicates)):
        return Evidence(low=None, high=None, p=None, detectable=None, draws=len(known))
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    error = float(known.std(ddof=1))
    crossing = int(min((known <= 0).sum(), (known >= 0).sum()))
    p = min(1.0, 2 * (crossing + 1) / (len(known) + 1))
    if crossing == 0:
        p = min(p, math.erfc(abs(delta) / error / math.sqrt(2)) if error > 0 else 0.0)
    if images_differ is not None:
        p = max(p, smallest_p(images_differ))
    return Evidence(
        low=float(low),
        high=float(high),
        p=p,
        detectable=DETECTABLE_ERRORS * error if error > 0 else None,
        draws=len(known),
    )


def smallest_p(num_differing: int) -> float:
    """The smallest two-sided p of an exact sign test over that many differing images."""
    return min(1.0, 2.0 ** (1 - min(num_differing, 1000)))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the false discovery rate (Benjamini & Hochberg 1995).

    In the given order; an empty list gives an empty list.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return [float(value) for value in out]


__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "DETECTABLE_ERRORS",
    "Evidence",
    "benjamini_hochberg",
    "draw_weights",
    "drawn_parts",
    "evidence",
    "smallest_p",
    "weighted_sums",
    "with_whole",
]
