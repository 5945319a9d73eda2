"""Repeats and loops to the flat `dup/*` keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.f1 import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.duplicates import Duplicates
    from coordeval.metrics.loops import LoopFinding


def dup_metrics(
    columns: Columns, duplicates: Duplicates, loops: Sequence[LoopFinding]
) -> dict[str, float | None]:
    """`dup/*` over the records of all images without engine error.

    Rates of objects are over readable records, `loop_rate` over samples. `max_repeat` is how
    often the most repeated record of one image stands there (1: no repeats, 0: no records).
    `wasted_tokens` is None where no rollout, or a rollout with a loop, lacks token ids.
    """
    readable = int(duplicates.readable.sum())
    exact, near = int(duplicates.exact.sum()), int(duplicates.near.sum())
    copies = np.bincount(duplicates.key[duplicates.readable]) if readable else np.zeros(1, int)
    looped = len({loop.image for loop in loops})
    return {
        "dup/exact_objects": exact,
        "dup/exact_rate": ratio(exact, readable),
        "dup/near_objects": near,
        "dup/near_rate": ratio(near, readable),
        "dup/max_repeat": int(copies.max()),
        "dup/loop_samples": looped,
        "dup/loop_rate": ratio(looped, int(columns.alive.sum())),
        "dup/wasted_tokens": _wasted(columns, loops),
    }


def _wasted(columns: Columns, loops: Sequence[LoopFinding]) -> int | None:
    if all(entry.num_tokens is None for entry in columns.images):
        return None
    total = 0
    for loop in loops:
        if loop.wasted_tokens is None:
            return None
        total += loop.wasted_tokens
    return total


def per_image_counts(flags: NDArray[np.bool_], columns: Columns) -> NDArray[np.int64]:
    """How many of the flagged records each image holds."""
    return np.bincount(columns.record_image[flags], minlength=columns.num_images)


__all__ = ["dup_metrics", "per_image_counts"]
