"""The entries of the metric catalogue: one per key or family of keys, in the order of the docs.

In a family's key `<iou>` stands for a threshold with two decimals or `mean`, `<reason>` for a drop
reason, `<issue>` for an issue, `<detail>` for free text. Aliases are the names that the same
quantity has in other tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.metrics.catalogue_control import CONTROL_ENTRIES
from coordeval.metrics.catalogue_info import MetricInfo
from coordeval.metrics.catalogue_info import count_entry as _count
from coordeval.metrics.catalogue_info import rate_entry as _rate
from coordeval.metrics.catalogue_lvis import LVIS_ENTRIES, NAME_ENTRIES
from coordeval.metrics.catalogue_probe import COORD_DIAG_ENTRIES
from coordeval.metrics.coco_engine import COCO_KEYS

if TYPE_CHECKING:
    from coordeval.metrics.catalogue_info import Better

_SAMPLES = (
    _count("samples/total", "samples in the run (sample_index 0)", "samples", "none"),
    _count(
        "samples/errors",
        "samples with an engine error; their objects count as missed",
        "samples",
        "lower",
        "eval_rollout/vllm_decode_error_count",
    ),
    _rate("samples/conforming_rate", "outputs without any drop or issue (notes allowed)", "higher"),
    _rate(
        "samples/empty_pred_rate",
        "outputs without a valid object, save an intended empty list on an empty image",
        "lower",
        "eval_det_empty_pred",
    ),
    _rate(
        "samples/unparseable_rate",
        "something written, no record found, no clean empty list",
        "lower",
    ),
    _rate(
        "samples/truncated_rate",
        "finish reason `length`, or, where unknown, a text that is cut",
        "lower",
        "eval_rollout/parse_truncated_rate",
        "rollout/parse_truncated_rate",
    ),
    _rate(
        "samples/valid_pred_rate",
        "outputs with at least one valid object",
        "higher",
        "eval_rollout/sample_valid_pred_rate",
        "rollout/sample_valid_pred_rate",
    ),
)
_PARSE = (
    _count(
        "parse/objects_found",
        "records found, kept or dropped",
        "records",
        "none",
        "rollout/parse_obj_total",
    ),
    _count(
        "parse/objects_valid",
        "records that are valid objects",
        "records",
        "none",
        "rollout/valid_pred_objects_total",
    ),
    _count(
        "parse/dropped_invalid",
        "records dropped",
        "records",
        "lower",
        "eval_rollout/parse_dropped_invalid",
        "rollout/parse_dropped_invalid",
    ),
    _rate("parse/drop_rate", "dropped / found records", "lower", "rollout/parse_obj_drop_frac"),
    _count(
        "parse/dropped/<reason>",
        "records dropped for this reason: {}",
        "records",
        "lower",
        "stage2_ab/channel_b/strict_drop/reason/<bucket>",
    ),
    _count(
        "parse/detail/<reason>/<detail>",
        "records dropped for this reason with this detail (50 most frequent, the rest (other))",
        "records",
        "lower",
    ),
    _count("parse/issue/<issue>", "samples whose text has this issue: {}", "samples", "lower"),
)
_DUP = (
    _count(
        "dup/exact_objects", "records equal to an earlier one (name and values)", "records", "lower"
    ),
    _rate("dup/exact_rate", "exact repeats / readable records", "lower"),
    _count(
        "dup/near_objects",
        "not exact, same name, IoU >= 0.90 with an earlier record",
        "records",
        "lower",
        "dup/raw/near_iou90_pairs_same_desc_count",
    ),
    _rate("dup/near_rate", "near repeats / readable records", "lower"),
    _count("dup/max_repeat", "copies of the most repeated record of one image", "records", "lower"),
    _count(
        "dup/loop_samples",
        "samples with a block repeated at least 4 times back to back",
        "samples",
        "lower",
        "rollout/repeat_terminate_triggered_sequences",
    ),
    _rate("dup/loop_rate", "samples with a loop / samples", "lower"),
    _count(
        "dup/wasted_tokens", "tokens from each loop's second copy to its end", "tokens", "lower"
    ),
)
_F1_FAMILIES = {
    "f1": "class-aware",
    "f1_loc": "class ignored",
    "f1_dedup": "class-aware, exact repeats removed",
}
_F1_LEAVES: dict[str, tuple[str, Better]] = {
    "precision": ("right / (right + wrong) predictions", "higher"),
    "recall": ("found / all ground truth", "higher"),
    "f1": ("2 TP / (2 TP + FP + FN)", "higher"),
    "precision_macro": ("mean over images of precision", "higher"),
    "recall_macro": ("mean over images of recall", "higher"),
    "f1_macro": ("mean over images of F1", "higher"),
}
_F1_COUNTS: dict[str, tuple[str, Better]] = {
    "tp": ("right predictions", "higher"),
    "fp": ("wrong predictions", "lower"),
    "fn": ("missed ground truth", "lower"),
}
_F1_ALIASES = {
    "f1/precision": ("eval_rollout/precision", "f1ish@<iou>_precision_full_micro"),
    "f1/recall": ("eval_rollout/recall", "f1ish@<iou>_recall_full_micro"),
    "f1/f1": ("eval_rollout/f1", "f1ish@<iou>_f1_full_micro"),
    "f1/fp": ("eval_rollout/fp_total", "f1ish@<iou>_fp_full"),
    "f1/fn": ("eval_rollout/fn_total", "f1ish@<iou>_fn_full"),
    "f1/tp": ("f1ish@<iou>_tp_full",),
    "f1_loc/precision": ("f1ish@<iou>_precision_loc_micro",),
    "f1_loc/recall": ("f1ish@<iou>_recall_loc_micro",),
    "f1_loc/f1": ("f1ish@<iou>_f1_loc_micro",),
    "f1_loc/tp": ("eval_rollout/matched", "f1ish@<iou>_tp_loc"),
    "f1_loc/fp": ("f1ish@<iou>_fp_loc",),
    "f1_loc/fn": ("f1ish@<iou>_fn_loc",),
}


def _f1_entries() -> tuple[MetricInfo, ...]:
    out = []
    for family, how in _F1_FAMILIES.items():
        for leaf, (meaning, better) in (_F1_LEAVES | _F1_COUNTS).items():
            is_count = leaf in _F1_COUNTS
            out.append(
                MetricInfo(
                    key=f"{family}/<iou>/{leaf}",
                    meaning=f"{meaning}, {how}; at IoU <iou>"
                    + ("" if is_count else " (`mean`: over .50:.95)"),
                    unit="objects" if is_count else "ratio",
                    better=better,
                    high=None if is_count else 1.0,
                    aliases=_F1_ALIASES.get(f"{family}/{leaf}", ()),
                )
            )
    return tuple(out)


_COCO_FAMILIES = {
    "coco": ("boxes", ("bbox_{}",)),
    "coco_dedup": ("boxes, exact repeats removed", ()),
    "coco_segm": ("masks", ("segm_{}",)),
}
_COCO_MEANINGS = {
    "AP": "mean AP over IoU .50:.95",
    "AP50": "AP at IoU .50",
    "AP75": "AP at IoU .75",
    "APs": "AP of small objects (< 32 x 32 px)",
    "APm": "AP of medium objects",
    "APl": "AP of large objects (> 96 x 96 px)",
    "AR1": "AR with 1 detection per image and class",
    "AR10": "AR with 10 detections per image and class",
    "AR100": "AR with 100 detections per image and class",
    "ARs": "AR of small objects",
    "ARm": "AR of medium objects",
    "ARl": "AR of large objects",
}


def _coco_entries() -> tuple[MetricInfo, ...]:
    out = []
    for family, (how, alias_forms) in _COCO_FAMILIES.items():
        for leaf in COCO_KEYS:
            aliases = tuple(form.format(leaf) for form in alias_forms)
            if (family, leaf) == ("coco", "AP"):
                aliases += ("eval_rollout/mAP",)
            out.append(
                _rate(f"{family}/{leaf}", f"{_COCO_MEANINGS[leaf]}; {how}", "higher", *aliases)
            )
    out.append(
        _rate("coco/AP_tie_min", "smallest AP found over orders of tied detections", "higher")
    )
    out.append(
        _rate("coco/AP_tie_max", "largest AP found over orders of tied detections", "higher")
    )
    out.append(
        _rate("score/tied_frac", "predictions whose score another prediction has too", "none")
    )
    return tuple(out)


_COUNTS = (
    _count(
        "count/gt",
        "scored ground truth without crowd regions",
        "objects",
        "none",
        "eval_rollout/gt_objects_total",
    ),
    _count("count/pred", "scored predictions", "objects", "none", "eval_rollout/pred_objects"),
    _count("count/gt_crowd", "crowd regions", "objects", "none"),
    _count("count/gt_zero_area", "ground truth without area, excluded", "objects", "none"),
    _count("count/gt_unscored", "ground-truth lines, not scored", "objects", "none"),
    _count("count/unscored", "predicted lines, parsed but not scored", "objects", "none"),
    _count(
        "count/unknown_class",
        "predictions named outside the class universe",
        "objects",
        "lower",
        "unknown_desc",
    ),
    _count(
        "count/outside_image", "predictions that leave the image; not clipped", "objects", "lower"
    ),
    _count("count/classes", "classes of the universe", "classes", "none"),
    _count(
        "count/classes_added", "ground-truth names that the class list lacks", "classes", "lower"
    ),
    _count(
        "count/other_samples",
        "rollouts with another sample_index, not scored here",
        "samples",
        "none",
    ),
    _count("count/gt_per_image", "ground truth per image", "objects", "none"),
    _count("count/pred_per_image", "predictions per evaluated image", "objects", "none"),
    _count(
        "count/error_abs_mean", "mean |predictions - ground truth| per image", "objects", "lower"
    ),
    MetricInfo(
        key="count/error_mean",
        meaning="mean (predictions - ground truth) per image",
        unit="objects",
        better="none",
        low=None,
    ),
    _rate("count/exact_rate", "images with as many predictions as ground truth", "higher"),
    _count("tokens/total", "generated tokens, the end token included", "tokens", "none"),
    _count(
        "tokens/mean",
        "generated tokens per sample",
        "tokens",
        "none",
        "rollout/gen_new_tokens_mean",
    ),
    _count(
        "tokens/p90",
        "90th percentile of generated tokens",
        "tokens",
        "none",
        "rollout/gen_new_tokens_p90",
    ),
    _count("tokens/max", "most generated tokens of one sample", "tokens", "none"),
)
_OUTLIERS = tuple(
    _rate(
        f"outliers/{name}/worst_{percent}pct",
        f"share of all {what} on the worst {percent} % of images",
        "none",
    )
    for name, what in (
        ("drops", "dropped records"),
        ("surplus", "predictions beyond the image's number of ground truths"),
    )
    for percent in (1, 5, 10)
)

CATALOGUE: tuple[MetricInfo, ...] = (
    *_SAMPLES,
    *_PARSE,
    *_DUP,
    *_f1_entries(),
    *_coco_entries(),
    *LVIS_ENTRIES,
    *_COUNTS,
    *NAME_ENTRIES,
    *_OUTLIERS,
    *CONTROL_ENTRIES,
    *COORD_DIAG_ENTRIES,
)
"""Every metric that scoring emits, in the order of the docs page."""

__all__ = ["CATALOGUE"]
