"""How concentrated failures are: the share of them that the worst images carry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORST_PERCENT: tuple[int, ...] = (1, 5, 10)


def worst_share(counts: NDArray[np.int64], percent: int) -> float | None:
    """Share of all counted events on the worst `percent` % of images (at least one image).

    Images are ranked by their own count; the number of images is rounded up. None where nothing
    happened or there are no images.
    """
    total = int(counts.sum())
    if not total:
        return None
    num_worst = math.ceil(len(counts) * percent / 100)
    return float(np.sort(counts)[::-1][:num_worst].sum() / total)


def outlier_metrics(
    drops: NDArray[np.int64], surplus: NDArray[np.int64]
) -> dict[str, float | None]:
    """`outliers/{drops,surplus}/worst_{1,5,10}pct` over images without engine error.

    `drops` are dropped records per image; `surplus` are predictions beyond the number of ground
    truths of the image, never negative.
    """
    out: dict[str, float | None] = {}
    for name, counts in (("drops", drops), ("surplus", surplus)):
        for percent in WORST_PERCENT:
            out[f"outliers/{name}/worst_{percent}pct"] = worst_share(counts, percent)
    return out


__all__ = ["WORST_PERCENT", "outlier_metrics", "worst_share"]
