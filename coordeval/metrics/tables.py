"""The tables behind the numbers: per image, per class, per object, and COCO results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import to_xywh
from coordeval.metrics.counts import gt_per_image, pred_per_image, token_counts
from coordeval.metrics.dup_metrics import per_image_counts
from coordeval.metrics.f1 import f1_value, ratio
from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.guard_metrics import guard_per_image
from coordeval.metrics.health import drops_per_image
from coordeval.metrics.oracle_metrics import oracle_per_image
from coordeval.metrics.slot_metrics import slot_per_image
from coordeval.parsers.reasons import FOREIGN_ISSUES, ISSUES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.result import ScoreResult, WorstImage

UNKNOWN_LABEL = "(unknown)"
_RESULTS_AT_ONCE = 4096


def text_column(values: Iterable[str | None]) -> pd.Series[Any]:
    """Text as Python objects: None stays None, and what is not valid Unicode stays as it is."""
    import pandas as pd

    return pd.Series(list(values), dtype=object)


def per_image_table(result: ScoreResult) -> pd.DataFrame:
    """One row per headline rollout, in run order; sums over rows give the micro numbers.

    `tp@0.50` ... class-aware, `loc_tp@...` class-agnostic, `dedup_tp@...` without exact repeats;
    `drop_<reason>`, `issue_<name>` counts; `slot_*`, `guard_*`, `oracle_*` where the run holds
    telemetry, a guard, other samples. Empty runs give an empty table with all columns.
    """
    import pandas as pd

    columns, flags, images = result.columns, result.flags, result.columns.images
    wasted: list[int | None] = [None if count is None else 0 for count in token_counts(columns)]
    for loop in result.loops:
        if loop.wasted_tokens is not None:
            wasted[loop.image] = (wasted[loop.image] or 0) + loop.wasted_tokens
    looped = np.zeros(len(images), dtype=bool)
    looped[[loop.image for loop in result.loops]] = True
    data: dict[str, Any] = {
        "id": text_column(entry.id for entry in images),
        "image": text_column(entry.image for entry in images),
        "image_id": pd.array([entry.image_id for entry in images], dtype="Int64"),
        "width": columns.sizes_wh[:, 0],
        "height": columns.sizes_wh[:, 1],
        "error": ~columns.alive,
        "finish_reason": text_column(entry.finish_reason for entry in images),
        "gt": gt_per_image(columns),
        "pred": pred_per_image(columns),
        "gt_zero_area": columns.gt.zero_area,
        "outside_image": columns.pred.outside,
        "unscored": columns.pred.lines,
        "found": [entry.num_found for entry in images],
        "valid": [entry.num_valid for entry in images],
        "conforming": flags.conforming,
        "empty_pred": flags.empty_pred,
        "unparseable": flags.unparseable,
        "truncated": flags.truncated,
        "valid_pred": flags.valid_pred,
        "readable": per_image_counts(result.duplicates.readable, columns),
        "exact": per_image_counts(result.duplicates.exact, columns),
        "near": per_image_counts(result.duplicates.near, columns),
        "loop": looped,
        "wasted_tokens": pd.array(wasted, dtype="Int64"),
        "tokens": pd.array(token_counts(columns), dtype="Int64"),
    }
    data |= {f"drop_{name}": counts for name, counts in drops_per_image(columns).items()}
    foreign = [name for name in FOREIGN_ISSUES if any(name in entry.issues for entry in images)]
    data |= {
        f"issue_{name}": [entry.issues.get(name, 0) for entry in images]
        for name in (*ISSUES, *foreign)
    }
    scored = result.scored
    for prefix, matched in (
        ("", scored.aware),
        ("loc_", scored.agnostic),
        ("dedup_", scored.deduplicated),
    ):
        data |= _threshold_columns(prefix, matched)
    if result.slots is not None:
        data |= slot_per_image(result.slots, len(images))
    if result.guarded:
        data |= guard_per_image(columns)
    if result.oracle is not None:
        data |= oracle_per_image(columns, result.oracle)
    return pd.DataFrame(data)


def _threshold_columns(prefix: str, matched: Matched) -> dict[str, NDArray[np.int64]]:
    out = {}
    for row, threshold in enumerate(matched.thresholds):
        for name, part in (("tp", matched.tp), ("fp", matched.fp), ("fn", matched.fn)):
            out[f"{prefix}{name}@{iou_name(threshold)}"] = part[row].astype(np.int64)
    return out


def per_class_table(result: ScoreResult) -> pd.DataFrame:
    """One row per class of the universe, then `(unknown)` where there are unknown names.

    Counts and ratios at every threshold, AP and AP50; a ratio with denominator 0 is null.
    """
    import pandas as pd

    universe, matched = result.columns.universe, result.scored.aware
    num = len(universe.names)
    has_unknown = bool(matched.class_fp[:, num].any())
    rows = [*range(num), *([num] if has_unknown else [])]
    data: dict[str, Any] = {
        "class": text_column([*universe.labels, UNKNOWN_LABEL][: len(rows)]),
        "category_id": pd.array([*universe.ids, None][: len(rows)], dtype="Int64"),
        "AP": pd.array([result.per_class_ap.get(row, (None, None))[0] for row in rows], "Float64"),
        "AP50": pd.array(
            [result.per_class_ap.get(row, (None, None))[1] for row in rows], "Float64"
        ),
    }
    for index, threshold in enumerate(matched.thresholds):
        name = iou_name(threshold)
        counts = [
            (
                int(matched.class_tp[index, row]),
                int(matched.class_fp[index, row]),
                int(matched.class_fn[index, row]),
            )
            for row in rows
        ]
        data[f"tp@{name}"] = [tp for tp, _, _ in counts]
        data[f"fp@{name}"] = [fp for _, fp, _ in counts]
        data[f"fn@{name}"] = [fn for _, _, fn in counts]
        data[f"precision@{name}"] = pd.array(
            [ratio(tp, tp + fp) for tp, fp, _ in counts], dtype="Float64"
        )
        data[f"recall@{name}"] = pd.array(
            [ratio(tp, tp + fn) for tp, _, fn in counts], dtype="Float64"
        )
        data[f"f1@{name}"] = pd.array([f1_value(*three) for three in counts], dtype="Float64")
    return pd.DataFrame(data)


def headline_row(matched: Matched) -> int:
    """The row of IoU .50 where it is there, else of the first threshold."""
    return matched.thresholds.index(0.5) if 0.5 in matched.thresholds else 0


def coco_results(result: ScoreResult) -> list[dict[str, Any]]:
    """COCO results: the rollouts' own image ids where all have one, else positions from 1."""
    return list(iter_coco_results(result))


def iter_coco_results(result: ScoreResult) -> Iterator[dict[str, Any]]:
    """The same one after the other, for runs whose whole list would be large."""
    columns, pred = result.columns, result.columns.pred
    ids = [entry.image_id for entry in columns.images]
    if None in ids or len(set(ids)) != len(ids):
        ids = list(range(1, len(ids) + 1))
    for first in range(0, len(pred), _RESULTS_AT_ONCE):
        rows = slice(first, first + _RESULTS_AT_ONCE)
        parts = zip(
            pred.shapes.image[rows].tolist(),
            pred.class_code[rows].tolist(),
            to_xywh(pred.shapes.boxes[rows]).tolist(),
            result.scores[rows].tolist(),
            strict=True,
        )
        for row, (image, code, box, score) in enumerate(parts, start=first):
            if code == UNKNOWN_CLASS:
                continue
            entry: dict[str, Any] = {
                "image_id": ids[image],
                "category_id": columns.universe.ids[code],
                "bbox": box,
                "score": score,
            }
            if row in pred.shapes.polygons:
                entry["segmentation"] = [list(pred.shapes.polygons[row])]
            yield entry


def worst_images(result: ScoreResult, count: int) -> list[WorstImage]:
    """Images by wrong + missed + dropped objects, most first; images without any are left out."""
    from coordeval.metrics.result import WorstImage

    columns, matched = result.columns, result.scored.aware
    row = headline_row(matched)
    drops = per_image_counts(~columns.record_valid, columns)
    failures = matched.fp[row] + matched.fn[row] + drops
    looped = {loop.image for loop in result.loops}
    order = np.argsort(-failures, kind="stable")[:count].tolist()
    return [
        WorstImage(
            id=columns.images[image].id,
            failures=int(failures[image]),
            tp=int(matched.tp[row][image]),
            fp=int(matched.fp[row][image]),
            fn=int(matched.fn[row][image]),
            drops=int(drops[image]),
            loop=image in looped,
        )
        for image in order
        if failures[image]
    ]


__all__ = [
    "UNKNOWN_LABEL",
    "coco_results",
    "headline_row",
    "iter_coco_results",
    "per_class_table",
    "per_image_table",
    "text_column",
    "worst_images",
]
