"""Which recipe makes which metric key: the visible table behind `compare`'s intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.f1_metrics import QUALITIES, iou_name
from coordeval.metrics.health import OTHER_DETAILS
from coordeval.metrics.outliers import WORST_PERCENT
from coordeval.metrics.protocols import COCO_THRESHOLDS
from coordeval.stats.control_recipes import control_recipes
from coordeval.stats.lvis_stats import lvis_recipes
from coordeval.stats.recipes import (
    Constant,
    Harmonic,
    Largest,
    Mean,
    MeanOfClasses,
    Quantile,
    Ratio,
    Recipe,
    Total,
    WorstShare,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.image_table import ImageTable


def _rate(above: str, below: str) -> Ratio:
    return Ratio({above: 1.0}, {below: 1.0})


_FIXED: dict[str, Recipe] = {
    "samples/total": Total("one"),
    "samples/errors": Total("error"),
    "samples/conforming_rate": _rate("conforming", "alive"),
    "samples/empty_pred_rate": _rate("empty_pred", "alive"),
    "samples/unparseable_rate": _rate("unparseable", "alive"),
    "samples/truncated_rate": _rate("truncated", "alive"),
    "samples/valid_pred_rate": _rate("valid_pred", "alive"),
    "parse/objects_found": Total("found"),
    "parse/objects_valid": Total("valid"),
    "parse/dropped_invalid": Total("drops"),
    "parse/drop_rate": _rate("drops", "found"),
    "dup/exact_objects": Total("exact"),
    "dup/exact_rate": _rate("exact", "readable"),
    "dup/near_objects": Total("near"),
    "dup/near_rate": _rate("near", "readable"),
    "dup/max_repeat": Largest("max_repeat"),
    "dup/loop_samples": Total("loop"),
    "dup/loop_rate": _rate("loop", "alive"),
    "dup/wasted_tokens": Total("wasted_tokens"),
    "score/tied_frac": _rate("tied", "scored_pred"),
    "count/gt": Total("gt"),
    "count/pred": Total("written"),
    "count/gt_crowd": Total("gt_crowd"),
    "count/gt_zero_area": Total("gt_zero_area"),
    "count/gt_unscored": Total("gt_unscored"),
    "count/unscored": Total("unscored"),
    "count/unknown_class": Total("unknown_class"),
    "count/outside_image": Total("outside_image"),
    "count/gt_per_image": _rate("gt", "one"),
    "count/pred_per_image": _rate("written", "alive"),
    "count/error_abs_mean": _rate("count_abs", "alive"),
    "count/error_mean": _rate("count_diff", "alive"),
    "count/exact_rate": _rate("count_exact", "alive"),
    "tokens/total": Total("tokens"),
    "tokens/mean": _rate("tokens", "has_tokens"),
    "tokens/p90": Quantile("tokens", 0.9),
    "tokens/max": Largest("tokens"),
    **{
        f"outliers/{name}/worst_{percent}pct": WorstShare(name, percent)
        for name in ("drops", "surplus")
        for percent in WORST_PERCENT
    },
}
_CONSTANT = ("count/classes", "count/classes_added", "count/other_samples")
_BY_PREFIX = {
    "parse/dropped/": "drop_",
    "parse/detail/": "detail_",
    "parse/issue/": "has_issue_",
}


def recipes_of(
    result: ScoreResult, table: ImageTable, also: Iterable[str] = ()
) -> dict[str, Recipe]:
    """Recipes for all metrics of a run that are made from sums over images (COCO's are not).

    `also` names keys that only other runs have (details of drop reasons). Some recipes add columns
    to `table`. Keys without a recipe are left out.
    """
    out: dict[str, Recipe] = dict(_FIXED)
    for key in _CONSTANT:
        value = result.metrics.get(key)
        if value is not None:
            out[key] = Constant(float(value))
    for prefix, column in _BY_PREFIX.items():
        for key in dict.fromkeys((*result.metrics, *also)):
            # What "(other)" stands for differs between runs.
            if key.startswith(prefix) and not key.endswith(f"/{OTHER_DETAILS}"):
                out[key] = Total(column + key.removeprefix(prefix))
    scored = result.scored
    for family, prefix, matched in (
        ("f1", "", scored.aware),
        ("f1_loc", "loc_", scored.agnostic),
        ("f1_dedup", "dedup_", scored.deduplicated),
    ):
        out |= _f1_recipes(result, table, family, prefix, matched)
    return out | control_recipes(result) | lvis_recipes(result, table)


def _f1_recipes(
    result: ScoreResult, table: ImageTable, family: str, prefix: str, matched: Matched
) -> dict[str, Recipe]:
    empty = result.protocol["empty_ratio"]
    micro = result.protocol["average"] == "micro" or family == "f1_loc"
    out: dict[str, Recipe] = {}
    for row, threshold in enumerate(matched.thresholds):
        name = iou_name(threshold)
        tp, fp, fn = (f"{prefix}{leaf}@{name}" for leaf in ("tp", "fp", "fn"))
        key = f"{family}/{name}"
        out |= {f"{key}/tp": Total(tp), f"{key}/fp": Total(fp), f"{key}/fn": Total(fn)}
        if micro:
            out |= _micro(key, tp, fp, fn, empty)
        else:
            out |= _of_classes(key, result, matched, row, (tp, fp, fn))
        if empty is not None:
            out |= _macro(key, table, (tp, fp, fn), empty)
    for leaf in QUALITIES:
        parts = [out.get(f"{family}/{iou_name(t)}/{leaf}") for t in COCO_THRESHOLDS]
        known = tuple(part for part in parts if part is not None)
        if len(known) == len(parts):
            out[f"{family}/mean/{leaf}"] = Mean(known)
    return out


def _micro(key: str, tp: str, fp: str, fn: str, empty: float | None) -> dict[str, Recipe]:
    precision = Ratio({tp: 1.0}, {tp: 1.0, fp: 1.0}, empty)
    recall = Ratio({tp: 1.0}, {tp: 1.0, fn: 1.0}, empty)
    f1: Recipe = Ratio({tp: 2.0}, {tp: 2.0, fp: 1.0, fn: 1.0})
    if empty is not None:
        f1 = Harmonic(precision, recall)
    return {f"{key}/precision": precision, f"{key}/recall": recall, f"{key}/f1": f1}


def _macro(
    key: str, table: ImageTable, columns: tuple[str, str, str], empty: float
) -> dict[str, Recipe]:
    """Means over images of per-image ratios: a column each."""
    tp, fp, fn = (table[name] for name in columns)
    precision = np.divide(tp, tp + fp, out=np.full_like(tp, empty), where=tp + fp > 0)
    recall = np.divide(tp, tp + fn, out=np.full_like(tp, empty), where=tp + fn > 0)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(tp), where=total > 0)
    out: dict[str, Recipe] = {}
    for leaf, values in zip(QUALITIES, (precision, recall, f1), strict=True):
        name = f"macro_{key}/{leaf}"
        table.add(name, values)
        out[f"{key}/{leaf}_macro"] = _rate(name, "one")
    return out


def _of_classes(
    key: str, result: ScoreResult, matched: Matched, row: int, columns: tuple[str, str, str]
) -> dict[str, Recipe]:
    counts = class_counts(result, matched, row)
    flat = np.concatenate(list(counts), axis=1)
    return {f"{key}/{leaf}": MeanOfClasses(leaf, flat, columns) for leaf in QUALITIES}


def class_counts(
    result: ScoreResult, matched: Matched, row: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Right, wrong and missed objects per image and class, at one threshold row.

    A pair counts for the class of its ground truth; unknown names have no column.
    """
    columns, pred, gt = result.columns, result.columns.pred, result.columns.gt
    shape = columns.num_images, len(columns.universe.names)
    right, wrong, missed = (np.zeros(shape) for _ in range(3))
    partner, ignored = matched.partner[row], matched.ignored[row]
    paired = partner >= 0
    np.add.at(right, (pred.shapes.image[paired], gt.class_code[partner[paired]]), 1)
    bad = ~paired & ~ignored & (pred.class_code != UNKNOWN_CLASS)
    np.add.at(wrong, (pred.shapes.image[bad], pred.class_code[bad]), 1)
    kept = np.ones(len(gt), dtype=bool)
    if result.protocol["crowd"] == "ignore":
        kept = ~gt.crowd
    np.add.at(missed, (gt.shapes.image[kept], gt.class_code[kept]), 1)
    return right, wrong, missed - right


__all__ = ["class_counts", "recipes_of"]
