"""How many objects and tokens there are: `count/*` and `tokens/*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.f1 import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns


def gt_per_image(columns: Columns) -> NDArray[np.int64]:
    """Scored ground truth per image, crowd regions left out."""
    image = columns.gt.shapes.image[~columns.gt.crowd]
    return np.bincount(image, minlength=columns.num_images)


def pred_per_image(columns: Columns) -> NDArray[np.int64]:
    """Scored (valid, not line) predictions per image."""
    return np.bincount(columns.pred.shapes.image, minlength=columns.num_images)


def count_metrics(columns: Columns) -> dict[str, float | None]:
    """`count/*`: objects, what is left out of scoring, and how far counts are off.

    The count errors are over images without engine error.
    """
    gt, pred = gt_per_image(columns), pred_per_image(columns)
    evaluated = int(columns.alive.sum())
    difference = (pred - gt)[columns.alive]
    return {
        "count/gt": int(gt.sum()),
        "count/pred": int(pred.sum()),
        "count/gt_crowd": int(columns.gt.crowd.sum()),
        "count/gt_zero_area": int(columns.gt.zero_area.sum()),
        "count/gt_unscored": int(columns.gt.lines.sum()),
        "count/unscored": int(columns.pred.lines.sum()),
        "count/unknown_class": int((columns.pred.class_code == UNKNOWN_CLASS).sum()),
        "count/outside_image": int(columns.pred.outside.sum()),
        "count/classes": len(columns.universe.names),
        "count/classes_added": columns.universe.added,
        "count/other_samples": int(columns.extra.get("other_samples", 0)),
        "count/gt_per_image": ratio(int(gt.sum()), columns.num_images),
        "count/pred_per_image": ratio(int(pred.sum()), evaluated),
        "count/error_abs_mean": ratio(int(np.abs(difference).sum()), evaluated),
        "count/error_mean": ratio(int(difference.sum()), evaluated),
        "count/exact_rate": ratio(int((difference == 0).sum()), evaluated),
    }


def token_counts(columns: Columns) -> list[int | None]:
    """Generated tokens per image (the end token included); None without token ids."""
    return [entry.num_tokens for entry in columns.images]


def token_metrics(columns: Columns) -> dict[str, float | None]:
    """`tokens/{total,mean,p90,max}` over rollouts that store token ids; None where none does."""
    known = np.array([count for count in token_counts(columns) if count is not None])
    if not len(known):
        return dict.fromkeys(("tokens/total", "tokens/mean", "tokens/p90", "tokens/max"))
    return {
        "tokens/total": int(known.sum()),
        "tokens/mean": float(known.mean()),
        "tokens/p90": float(np.quantile(known, 0.9)),
        "tokens/max": int(known.max()),
    }


__all__ = [
    "count_metrics",
    "gt_per_image",
    "pred_per_image",
    "token_counts",
    "token_metrics",
]
