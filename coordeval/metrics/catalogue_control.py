"""Catalogue entries of what control and record of decoding add: slots, guard, other samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.metrics.catalogue_info import MetricInfo, count_entry, rate_entry
from coordeval.metrics.guard_metrics import GUARD_KINDS, OTHER_KIND
from coordeval.metrics.oracle_metrics import ORACLE_COUNTS, ORACLE_FAMILIES, ORACLE_RATIOS
from coordeval.metrics.slot_metrics import LOW_MASS

if TYPE_CHECKING:
    from coordeval.metrics.catalogue_info import Better

_SLOTS = (
    count_entry("slot/total", "coordinate slots with telemetry", "slots", "none"),
    count_entry("slot/samples", "samples with such slots", "samples", "none"),
    rate_entry(
        "slot/mass_mean",
        "mean probability of the coordinate vocabulary at a slot, before any mask",
        "higher",
    ),
    rate_entry("slot/mass_min", "smallest coordinate mass of a slot", "higher"),
    rate_entry("slot/mass_p05", "5th percentile of the coordinate mass over slots", "higher"),
    *(
        rate_entry(
            f"slot/mass_below_{limit:.2f}_rate",
            f"slots with a coordinate mass below {limit:g}",
            "lower",
        )
        for limit in LOW_MASS
    ),
    rate_entry(
        "slot/mass_kept", "mean coordinate mass where a coordinate token was written", "higher"
    ),
    rate_entry("slot/mass_foreign", "mean coordinate mass where another token was written", "none"),
    rate_entry(
        "slot/mass_first_record",
        "mean coordinate mass in the first record (samples with two records or more)",
        "higher",
    ),
    rate_entry(
        "slot/mass_last_record",
        "mean coordinate mass in the last record (samples with two records or more)",
        "higher",
    ),
    rate_entry(
        "slot/mass_bound_max",
        "largest mass that an engine with top tokens only may have missed at a slot",
        "none",
    ),
    rate_entry("slot/top_prob_mean", "mean probability of the most probable bin", "none"),
    MetricInfo(
        key="slot/entropy_mean",
        meaning="mean entropy of the bins among themselves",
        unit="nats",
        better="none",
    ),
    rate_entry(
        "slot/control_lost_rate",
        "slots where another token is more probable than every bin",
        "lower",
    ),
    rate_entry("slot/foreign_rate", "slots in which no coordinate token was written", "lower"),
)
_GUARD = (
    count_entry("guard/marked", "samples in which the loop guard saw a loop", "samples", "lower"),
    rate_entry("guard/marked_rate", "samples in which the loop guard saw a loop", "lower"),
    count_entry("guard/stopped", "samples that the loop guard ended", "samples", "lower"),
    rate_entry("guard/stopped_rate", "samples that the loop guard ended", "lower"),
    count_entry(
        "guard/tokens_saved",
        "tokens up to the limit that stopped samples did not spend",
        "tokens",
        "none",
    ),
    count_entry("guard/onset_mean", "mean token at which what repeats begins", "tokens", "none"),
    *(
        count_entry(
            f"guard/kind/{kind}", f"samples that the guard marked: {meaning}", "samples", "lower"
        )
        for kind, meaning in zip(
            (*GUARD_KINDS, OTHER_KIND),
            (
                "a record written again and again",
                "a block of records back to back",
                "near repeats in a row",
                "a cycle of tokens outside records",
                "kind not given, or not known",
            ),
            strict=True,
        )
    ),
)
_ORACLE_WHOLE = (
    count_entry(
        "oracle/images",
        "images whose headline and at least one other sample have no engine error",
        "images",
        "none",
    ),
    count_entry(
        "oracle/samples_per_image",
        "other samples (sample_index >= 1) per such image",
        "samples",
        "none",
    ),
    count_entry(
        "oracle/errors",
        "other samples with an engine error; they are no trials",
        "samples",
        "lower",
    ),
)
_ORACLE_LEAVES: dict[str, tuple[str, Better, tuple[str, ...]]] = {
    "missed": ("ground truth that the headline misses", "lower", ("baseline_fn_count",)),
    "recoverable": (
        "of those, found by at least one other sample",
        "none",
        ("recoverable_fn_count",),
    ),
    "systematic": ("of those, found by none", "lower", ("systematic_fn_count",)),
    "recoverable_rate": ("recoverable / missed", "none", ()),
    "recover_fraction": (
        "finds of missed ground truth by other samples / (missed x other samples)",
        "none",
        ("recover_fraction",),
    ),
    "recall": ("recall of the headline on these images", "higher", ()),
    "recall_sample": ("recall of the other samples, on average", "higher", ()),
    "recall_union": (
        "ground truth found by the headline or any other sample",
        "higher",
        ("oracle_k.recall",),
    ),
    "f1_sample": ("F1 of the other samples, counts summed", "higher", ()),
    "f1_best": ("F1 where each image takes its best sample, the headline included", "higher", ()),
}
_SUFFIXES = {"oracle": "full", "oracle_loc": "loc"}
_HOW = {"oracle": "class-aware", "oracle_loc": "class ignored"}


def _oracle() -> tuple[MetricInfo, ...]:
    out = []
    for family in ORACLE_FAMILIES:
        for leaf in (*ORACLE_COUNTS, *ORACLE_RATIOS):
            meaning, better, aliases = _ORACLE_LEAVES[leaf]
            is_count = leaf in ORACLE_COUNTS
            out.append(
                MetricInfo(
                    key=f"{family}/<iou>/{leaf}",
                    meaning=f"{meaning}, {_HOW[family]}; at IoU <iou>"
                    + ("" if is_count else " (`mean`: over .50:.95)"),
                    unit="objects" if is_count else "ratio",
                    better=better,
                    high=None if is_count else 1.0,
                    aliases=tuple(f"{alias}_{_SUFFIXES[family]}" for alias in aliases),
                )
            )
    return tuple(out)


CONTROL_ENTRIES: tuple[MetricInfo, ...] = (*_SLOTS, *_GUARD, *_ORACLE_WHOLE, *_oracle())
"""Entries of `slot/*`, `guard/*`, `oracle/*` and `oracle_loc/*`."""

__all__ = ["CONTROL_ENTRIES"]
