"""Rollouts in memory to sums that add up over batches and processes, by the scorer's functions.

`rollout_metrics` of the sums of all parts is what scoring the whole in one run gives, key by key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from coordeval.data.names import normalise_desc
from coordeval.metrics.collect import collect
from coordeval.metrics.counts import gt_per_image, pred_per_image, token_counts
from coordeval.metrics.dup_metrics import dup_metrics
from coordeval.metrics.duplicates import find_duplicates
from coordeval.metrics.f1 import f1_value, ratio
from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.guard_metrics import guard_per_image
from coordeval.metrics.health import sample_flags
from coordeval.metrics.judging import in_scope, judge
from coordeval.metrics.loops import find_loops
from coordeval.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from coordeval.parsers.reasons import DROP_REASONS, ISSUES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.metrics.columns import Columns
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category, Rollout

IOU = 0.5
FLAGS = ("conforming", "empty_pred", "unparseable", "truncated", "valid_pred")
FAMILIES = ("f1", "f1_loc")
_PROTOCOL = replace(PROTOCOLS[DEFAULT_PROTOCOL], iou_thresholds=(IOU,))


@dataclass(slots=True, kw_only=True)
class RolloutSums:
    """What rollouts add up to; `lengths` are the tokens of each one whose tokens are known.

    `unknown_waste` counts parts in which a loop's tokens are not known, `guarded` parts in which a
    loop guard watched: with it off there is nothing to say about one.
    """

    sums: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    max_repeat: int = 0

    def __getitem__(self, name: str) -> int:
        return self.sums.get(name, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How texts are read and judged: as the training data are written.

    `vocabulary` holds the ids of the 1000 coordinate tokens; `guarded`: a loop guard watches.
    """

    dialect: Dialect
    frame: CoordFrame
    categories: Sequence[Category] | None
    vocabulary: NDArray[np.int64] | None
    guarded: bool


def rollout_sums(rollouts: Iterable[Rollout], reading: Reading) -> RolloutSums:
    """The sums of rollouts of different samples, all of the sample_index 0; zeros for none."""
    columns = collect(
        rollouts,
        dialect=reading.dialect,
        frame=reading.frame,
        categories=reading.categories,
        protocol=_PROTOCOL,
    )
    guarded = reading.guarded or any(entry.guard is not None for entry in columns.images)
    out = RolloutSums(lengths=[count for count in token_counts(columns) if count is not None])
    out.sums = _health(columns) | _quality(columns) | {"guarded": int(guarded)}
    for name, values in guard_per_image(columns).items():
        out.sums[name] = int(values.sum())
    names = {desc: normalise_desc(desc) for desc in columns.records.desc if desc is not None}
    duplicates = find_duplicates(columns, names)
    loops = find_loops(columns, duplicates.key, duplicates.readable, reading.vocabulary)
    found = dup_metrics(columns, duplicates, loops)
    out.max_repeat = int(found["dup/max_repeat"] or 0)
    wasted = found["dup/wasted_tokens"]
    out.sums |= {
        "readable": int(duplicates.readable.sum()),
        "exact": int(duplicates.exact.sum()),
        "near": int(duplicates.near.sum()),
        "loops": int(found["dup/loop_samples"] or 0),
        "wasted": 0 if wasted is None else int(wasted),
        "unknown_waste": int(wasted is None and any(loop.wasted_tokens is None for loop in loops)),
    }
    return out


def _health(columns: Columns) -> dict[str, int]:
    flags = sample_flags(columns)
    records = columns.records
    out = {
        "samples": columns.num_images,
        "errors": int((~columns.alive).sum()),
        "found": len(records),
        "valid": int(columns.record_valid.sum()),
    }
    out |= {name: int(getattr(flags, name).sum()) for name in FLAGS}
    out |= {f"dropped/{reason}": records.reason.count(reason) for reason in DROP_REASONS}
    for issue in ISSUES:
        out[f"issue/{issue}"] = sum(issue in entry.issues for entry in columns.images)
    return out


def _quality(columns: Columns) -> dict[str, int]:
    inside, _ = in_scope(columns, _PROTOCOL)
    scored = judge(columns, _PROTOCOL, inside)
    out = {}
    for family, matched in zip(FAMILIES, (scored.aware, scored.agnostic), strict=True):
        for part in ("tp", "fp", "fn"):
            out[f"{family}/{part}"] = int(getattr(matched, part)[0].sum())
    gt, pred = gt_per_image(columns), pred_per_image(columns)
    difference = (pred - gt)[columns.alive]
    return out | {
        "gt": int(gt.sum()),
        "pred": int(pred.sum()),
        "error": int(difference.sum()),
        "error_abs": int(np.abs(difference).sum()),
    }


def added(parts: Iterable[RolloutSums]) -> RolloutSums:
    """All parts as one; zeros without parts."""
    out = RolloutSums()
    for part in parts:
        for name, value in part.sums.items():
            out.sums[name] = out[name] + value
        out.lengths += part.lengths
        out.max_repeat = max(out.max_repeat, part.max_repeat)
    return out


def rollout_metrics(of: RolloutSums) -> dict[str, float | None]:
    """The catalogue's keys, the same whatever the sums are; None where there is no value."""
    evaluated = of["samples"] - of["errors"]
    dropped = of["found"] - of["valid"]
    out: dict[str, float | None] = {
        "samples/total": of["samples"],
        "samples/errors": of["errors"],
        **{f"samples/{name}_rate": ratio(of[name], evaluated) for name in FLAGS},
        "parse/objects_found": of["found"],
        "parse/objects_valid": of["valid"],
        "parse/dropped_invalid": dropped,
        "parse/drop_rate": ratio(dropped, of["found"]),
        **{f"parse/dropped/{reason}": of[f"dropped/{reason}"] for reason in DROP_REASONS},
        **{f"parse/issue/{issue}": of[f"issue/{issue}"] for issue in ISSUES},
        "dup/exact_objects": of["exact"],
        "dup/exact_rate": ratio(of["exact"], of["readable"]),
        "dup/near_objects": of["near"],
        "dup/near_rate": ratio(of["near"], of["readable"]),
        "dup/max_repeat": of.max_repeat,
        "dup/loop_samples": of["loops"],
        "dup/loop_rate": ratio(of["loops"], evaluated),
        "dup/wasted_tokens": None if of["unknown_waste"] or not of.lengths else of["wasted"],
    }
    for family in FAMILIES:
        out |= _f1(f"{family}/{iou_name(IOU)}", *(of[f"{family}/{p}"] for p in ("tp", "fp", "fn")))
    return out | {
        "count/gt": of["gt"],
        "count/pred": of["pred"],
        "count/gt_per_image": ratio(of["gt"], of["samples"]),
        "count/pred_per_image": ratio(of["pred"], evaluated),
        "count/error_mean": ratio(of["error"], evaluated),
        "count/error_abs_mean": ratio(of["error_abs"], evaluated),
        **_tokens(of.lengths),
        **_guard(of, evaluated),
    }


def _f1(key: str, tp: int, fp: int, fn: int) -> dict[str, float | None]:
    return {
        f"{key}/precision": ratio(tp, tp + fp),
        f"{key}/recall": ratio(tp, tp + fn),
        f"{key}/f1": f1_value(tp, fp, fn),
        f"{key}/tp": tp,
        f"{key}/fp": fp,
        f"{key}/fn": fn,
    }


def _tokens(lengths: Sequence[int]) -> dict[str, float | None]:
    if not lengths:
        return dict.fromkeys(("tokens/total", "tokens/mean", "tokens/p90", "tokens/max"))
    return {
        "tokens/total": sum(lengths),
        "tokens/mean": sum(lengths) / len(lengths),
        "tokens/p90": float(np.quantile(lengths, 0.9)),
        "tokens/max": max(lengths),
    }


def _guard(of: RolloutSums, evaluated: int) -> dict[str, float | None]:
    if not of["guarded"]:
        keys = ("marked", "marked_rate", "stopped", "stopped_rate", "tokens_saved")
        return dict.fromkeys(f"guard/{key}" for key in keys)
    return {
        "guard/marked": of["guard_marked"],
        "guard/marked_rate": ratio(of["guard_marked"], evaluated),
        "guard/stopped": of["guard_stopped"],
        "guard/stopped_rate": ratio(of["guard_stopped"], evaluated),
        "guard/tokens_saved": of["guard_saved"],
    }


__all__ = ["Reading", "RolloutSums", "added", "rollout_metrics", "rollout_sums"]
