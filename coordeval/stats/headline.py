"""Which metrics `compare` shows first and judges as one family."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADLINE: tuple[str, ...] = (
    "f1/0.30/f1",
    "f1/0.50/f1",
    "f1/0.50/precision",
    "f1/0.50/recall",
    "f1/mean/f1",
    "f1_loc/0.50/f1",
    "coco/AP",
    "coco/AP50",
    "coco/AR100",
    "coco_dedup/AP",
    "coco_segm/AP",
    "lvis/AP",
    "samples/errors",
    "samples/conforming_rate",
    "samples/empty_pred_rate",
    "samples/truncated_rate",
    "parse/drop_rate",
    "dup/exact_rate",
    "dup/near_rate",
    "dup/loop_rate",
    "count/error_abs_mean",
    "tokens/mean",
)


def headline_keys(metrics: Iterable[Mapping[str, float | int | None]]) -> tuple[str, ...]:
    """The headline metrics of which some run has a value, in the order of the table."""
    runs = list(metrics)
    return tuple(key for key in HEADLINE if any(run.get(key) is not None for run in runs))


def headline_f1(metrics: Mapping[str, float | int | None]) -> str:
    """The F1 that movers and slices are about: IoU .50, else the protocol's first threshold."""
    if "f1/0.50/f1" in metrics:
        return "f1/0.50/f1"
    return next(key for key in metrics if key.startswith("f1/") and key.endswith("/f1"))


__all__ = ["HEADLINE", "headline_f1", "headline_keys"]
