"""Recipes of what control and record of decoding add: `slot/*`, `guard/*`, `oracle/*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.guard_metrics import GUARD_KINDS, OTHER_KIND
from coordeval.metrics.oracle_metrics import ORACLE_FAMILIES, ORACLE_RATIOS
from coordeval.metrics.protocols import COCO_THRESHOLDS
from coordeval.metrics.slot_metrics import LOW_SHARE, SLOT_MEANS
from coordeval.metrics.tables import headline_row
from coordeval.stats.recipes import Largest, Mean, PooledQuantile, Ratio, Smallest, Total

if TYPE_CHECKING:
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.recipes import Recipe


def _rate(above: str, below: str) -> Ratio:
    return Ratio({above: 1.0}, {below: 1.0})


_FIXED: dict[str, Recipe] = {
    "slot/total": Total("slot_total"),
    "slot/samples": Total("slot_samples"),
    "slot/mass_min": Smallest("slot_mass_min"),
    "slot/mass_bound_max": Largest("slot_bound_max"),
    **{key: _rate(above, below) for key, (above, below) in SLOT_MEANS.items()},
    "guard/marked": Total("guard_marked"),
    "guard/marked_rate": _rate("guard_marked", "alive"),
    "guard/stopped": Total("guard_stopped"),
    "guard/stopped_rate": _rate("guard_stopped", "alive"),
    "guard/tokens_saved": Total("guard_saved"),
    "guard/onset_mean": _rate("guard_onset", "guard_onset_known"),
    **{f"guard/kind/{kind}": Total(f"guard_kind_{kind}") for kind in (*GUARD_KINDS, OTHER_KIND)},
    "oracle/images": Total("oracle_images"),
    "oracle/samples_per_image": _rate("oracle_samples", "oracle_images"),
    "oracle/errors": Total("oracle_failed"),
}


def control_recipes(result: ScoreResult) -> dict[str, Recipe]:
    """Recipes of the parts that this run holds; none for a run without any of them."""
    held = [
        prefix
        for prefix, there in (
            ("slot/", result.slots is not None),
            ("guard/", result.guarded),
            ("oracle/", result.oracle is not None),
        )
        if there
    ]
    out = {key: recipe for key, recipe in _FIXED.items() if key.startswith(tuple(held))}
    if result.slots is not None:
        out["slot/mass_p05"] = _low_mass(result)
    if result.oracle is not None:
        for family in ORACLE_FAMILIES:
            out |= _oracle(result, family)
    return out


def _low_mass(result: ScoreResult) -> Recipe:
    slots = result.slots
    assert slots is not None
    known = np.flatnonzero(~np.isnan(slots.coord_mass))
    rows = known[np.argsort(slots.coord_mass[known], kind="stable")]
    return PooledQuantile(
        ordered=slots.coord_mass[rows],
        image=slots.image[rows],
        share=LOW_SHARE,
        columns=("slot_mass", "slot_mass_min", "slot_mass_known"),
    )


def _oracle(result: ScoreResult, family: str) -> dict[str, Recipe]:
    matched = result.scored.aware
    ratios = {t: _ratios(f"{family}_", iou_name(t)) for t in matched.thresholds}
    headline = matched.thresholds[headline_row(matched)]
    key, at = f"{family}/{iou_name(headline)}", iou_name(headline)
    missed, recoverable = f"{family}_missed@{at}", f"{family}_recoverable@{at}"
    out: dict[str, Recipe] = {
        f"{key}/missed": Total(missed),
        f"{key}/recoverable": Total(recoverable),
        f"{key}/systematic": Total(f"{family}_systematic@{at}"),
        **{f"{key}/{leaf}": recipe for leaf, recipe in ratios[headline].items()},
    }
    if set(COCO_THRESHOLDS) <= set(matched.thresholds):
        for leaf in ORACLE_RATIOS:
            out[f"{family}/mean/{leaf}"] = Mean(tuple(ratios[t][leaf] for t in COCO_THRESHOLDS))
    return out


def _ratios(prefix: str, at: str) -> dict[str, Recipe]:
    def named(*names: str) -> list[str]:
        return [f"{prefix}{name}@{at}" for name in names]

    gt, missed, recoverable, recovered, trials = named(
        "gt", "missed", "recoverable", "recovered", "trials"
    )
    out: dict[str, Recipe] = {
        "recoverable_rate": _rate(recoverable, missed),
        "recover_fraction": _rate(recovered, trials),
        "recall": Ratio({gt: 1.0, missed: -1.0}, {gt: 1.0}),
        "recall_union": Ratio({gt: 1.0, missed: -1.0, recoverable: 1.0}, {gt: 1.0}),
    }
    for name in ("sample", "best"):
        right, wrong, lacking = named(f"{name}_tp", f"{name}_fp", f"{name}_fn")
        out[f"f1_{name}"] = Ratio({right: 2.0}, {right: 2.0, wrong: 1.0, lacking: 1.0})
        if name == "sample":
            out["recall_sample"] = Ratio({right: 1.0}, {right: 1.0, lacking: 1.0})
    return out


__all__ = ["control_recipes"]
