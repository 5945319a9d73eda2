"""Diagnoses added up over texts, batches and processes, and the metrics that they give.

Every metric but one is a ratio of two sums, so totals add up in any order and the result does not
depend on how the positions were cut into batches. The 90th percentile is taken over the errors
themselves, which are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coordeval.training.diagnostics.values import Diagnosis

# Codes of `diagnostics.COORDINATE`, DESCRIPTION and STRUCTURE, and their names in training logs.
KIND_NAMES = ("coord", "desc", "format")
TEXT_KINDS = KIND_NAMES[1:]
SLOT_SUMS = ("coord_mass", "gate", "flip", "multimodal")
BIN_SUMS = ("abs_err", "w1_to_delta", "p_gt", "top5", "margin", "soft_ce", "w1", "ce")
FIELDS = (
    "slots",
    "bins",
    *SLOT_SUMS,
    *BIN_SUMS,
    "text_tokens",
    "text_coord_mass",
    "text_to_coord",
    *(f"{kind}_to_coord" for kind in TEXT_KINDS),
    "tokens",
    "right",
    *(f"{kind}_{what}" for kind in KIND_NAMES for what in ("tokens", "right")),
)
"""What is summed: counts, and sums of values over them."""

P90_KEY = "coord_diag/expected_bin_abs_err_p90"
RATIOS: dict[str, tuple[str, str]] = {
    "coord_diag/expected_bin_mae": ("abs_err", "bins"),
    "coord_diag/w1_to_delta": ("w1_to_delta", "bins"),
    "coord_diag/p_gt_mean": ("p_gt", "bins"),
    "coord_diag/acc_top5": ("top5", "bins"),
    "coord_diag/margin_mean": ("margin", "bins"),
    "coord_diag/soft_ce": ("soft_ce", "bins"),
    "coord_diag/w1": ("w1", "bins"),
    "coord_diag/ce": ("ce", "bins"),
    "coord_diag/gate": ("gate", "slots"),
    "coord_diag/coord_vocab_mass": ("coord_mass", "slots"),
    "coord_diag/flip_coord_to_noncoord": ("flip", "slots"),
    "coord_diag/multimodal_rate": ("multimodal", "slots"),
    "coord_diag/text_coord_vocab_mass": ("text_coord_mass", "text_tokens"),
    "coord_diag/flip_text_to_coord": ("text_to_coord", "text_tokens"),
    **{
        f"coord_diag/flip_{kind}_to_coord": (f"{kind}_to_coord", f"{kind}_tokens")
        for kind in TEXT_KINDS
    },
    "token_acc": ("right", "tokens"),
    **{f"{kind}_token_acc": (f"{kind}_right", f"{kind}_tokens") for kind in KIND_NAMES},
}
"""Metrics that are a ratio of two fields."""

METRIC_KEYS = ("coord_diag/expected_bin_mae", P90_KEY, *list(RATIOS)[1:])
"""All metrics, in the order of reports."""

_PLACE = {name: number for number, name in enumerate(FIELDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over some positions: `sums` (one per `FIELDS`), and every slot's |expected - true bin|.

    Both are float64. `abs_errors` has one entry per slot with a true bin. Plain arrays, so that
    totals can be gathered over processes.
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(FIELDS)))
    abs_errors: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __getitem__(self, name: str) -> float:
        return float(self.sums[_PLACE[name]])

    def metrics(self) -> dict[str, float | None]:
        """Every key of `METRIC_KEYS`; None where there is nothing to take it over."""
        values: dict[str, float | None] = {
            key: self[above] / self[below] if self[below] else None
            for key, (above, below) in RATIOS.items()
        }
        values[P90_KEY] = float(np.quantile(self.abs_errors, 0.9)) if len(self.abs_errors) else None
        return {key: values[key] for key in METRIC_KEYS}

    def counts(self) -> dict[str, int]:
        """How many positions, slots, slots with a true bin and text tokens there are."""
        return {name: int(self[name]) for name in ("tokens", "slots", "bins", "text_tokens")}


def totals_of(diagnosis: Diagnosis) -> Totals:
    """Sums of one diagnosis in float64; no positions give zeros."""
    slots = diagnosis.slots
    kinds = diagnosis.kinds_N.cpu().numpy()
    right = diagnosis.correct_N.cpu().numpy()
    mass = diagnosis.coord_mass_N.double().cpu().numpy()
    to_coord = diagnosis.to_coord_N.cpu().numpy()
    known = (slots.bins >= 0).cpu().numpy()
    abs_errors = slots.abs_err.double().cpu().numpy()[known]
    is_text = kinds != 0
    values: dict[str, float] = {
        "slots": len(known),
        "bins": int(known.sum()),
        "text_tokens": int(is_text.sum()),
        "text_coord_mass": float(mass[is_text].sum()),
        "text_to_coord": int(to_coord[is_text].sum()),
        "tokens": len(kinds),
        "right": int(right.sum()),
    }
    # Values that need a true bin are 0 where there is none.
    for name in (*SLOT_SUMS, *BIN_SUMS):
        values[name] = float(getattr(slots, name).double().sum())
    for code, kind in enumerate(KIND_NAMES):
        values[f"{kind}_tokens"] = int((kinds == code).sum())
        values[f"{kind}_right"] = int(right[kinds == code].sum())
        if kind in TEXT_KINDS:
            values[f"{kind}_to_coord"] = int(to_coord[kinds == code].sum())
    return Totals(sums=np.array([values[name] for name in FIELDS]), abs_errors=abs_errors)


def add_up(parts: Iterable[Totals]) -> Totals:
    """One total of many, as if their positions had stood in one batch; none give zeros."""
    listed = list(parts)
    if not listed:
        return Totals()
    return Totals(
        sums=np.sum([part.sums for part in listed], axis=0),
        abs_errors=np.concatenate([part.abs_errors for part in listed]),
    )


__all__ = [
    "FIELDS",
    "KIND_NAMES",
    "METRIC_KEYS",
    "P90_KEY",
    "RATIOS",
    "Totals",
    "add_up",
    "totals_of",
]
