"""Counts to the flat F1 keys of a protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.f1 import f1_value, ratio
from coordeval.metrics.protocols import COCO_THRESHOLDS

if TYPE_CHECKING:
    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.protocols import Protocol

QUALITIES = ("precision", "recall", "f1")


def iou_name(threshold: float) -> str:
    """A threshold as it stands in keys: two decimals."""
    return f"{threshold:.2f}"


def f1_metrics(prefix: str, matched: Matched, protocol: Protocol) -> dict[str, float | None]:
    """`<prefix>/<iou>/{precision,recall,f1,tp,fp,fn}` and `<prefix>/mean/{precision,recall,f1}`.

    A ratio with denominator 0 is None (or the protocol's `empty_ratio`). The means need all of
    .50:.95 and a value at each.
    """
    out: dict[str, float | None] = {}
    for row, threshold in enumerate(matched.thresholds):
        key = f"{prefix}/{iou_name(threshold)}"
        tp, fp, fn = (int(part[row].sum()) for part in (matched.tp, matched.fp, matched.fn))
        if protocol.average == "micro" or prefix == "f1_loc":
            values = _micro(tp, fp, fn, protocol.empty_ratio)
        else:
            values = _mean_of_classes(matched, row)
        for name, value in zip(QUALITIES, values, strict=True):
            out[f"{key}/{name}"] = value
        out |= {f"{key}/tp": tp, f"{key}/fp": fp, f"{key}/fn": fn}
        if protocol.empty_ratio is not None:
            out |= _macro(key, matched, row, protocol.empty_ratio)
    if set(COCO_THRESHOLDS) <= set(matched.thresholds):
        for name in QUALITIES:
            parts = [out[f"{prefix}/{iou_name(threshold)}/{name}"] for threshold in COCO_THRESHOLDS]
            out[f"{prefix}/mean/{name}"] = _mean(parts)
    return out


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _micro(
    tp: int, fp: int, fn: int, empty: float | None
) -> tuple[float | None, float | None, float | None]:
    precision, recall = ratio(tp, tp + fp, empty), ratio(tp, tp + fn, empty)
    if empty is None:
        return precision, recall, f1_value(tp, fp, fn)
    return precision, recall, _harmonic(precision or 0.0, recall or 0.0)


def _harmonic(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _macro(key: str, matched: Matched, row: int, empty: float) -> dict[str, float | None]:
    """Means over images of the per-image ratios (protocol `coordexp`)."""
    per_image = [
        _micro(tp, fp, fn, empty)
        for tp, fp, fn in zip(
            matched.tp[row].tolist(),
            matched.fp[row].tolist(),
            matched.fn[row].tolist(),
            strict=True,
        )
    ]
    return {
        f"{key}/{name}_macro": _mean([values[place] for values in per_image])
        for place, name in enumerate(QUALITIES)
    }


def _mean_of_classes(matched: Matched, row: int) -> tuple[float | None, float | None, float | None]:
    """Means over the classes that have at least one right prediction."""
    tp = matched.class_tp[row][:-1].astype(np.float64)
    some = tp > 0
    if not some.any():
        return None, None, None
    tp = tp[some]
    precision = tp / (tp + matched.class_fp[row][:-1][some])
    recall = tp / (tp + matched.class_fn[row][:-1][some])
    f1 = 2 * precision * recall / (precision + recall)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


__all__ = ["f1_metrics", "iou_name"]
