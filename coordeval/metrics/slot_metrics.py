"""Slot telemetry to the flat `slot/*` keys, and their per-image columns.

A slot is a place in a geometry list where a coordinate is expected. Masses and probabilities are
the model's own, before any mask. Where an engine knows only its top tokens, the mass is the one
that it saw, and the true one lies at most `mass_bound` above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.f1 import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.slot_columns import Slots

LOW_MASS: tuple[float, ...] = (0.5, 0.9)
LOW_SHARE = 0.05
_MEANS = {
    "mass_mean": "mass",
    "mass_kept": "kept_mass",
    "mass_foreign": "foreign_mass",
    "mass_first_record": "first_mass",
    "mass_last_record": "last_mass",
    "top_prob_mean": "top_prob",
    "entropy_mean": "entropy",
    "control_lost_rate": "lost",
    **{f"mass_below_{limit:.2f}_rate": f"below_{limit:.2f}" for limit in LOW_MASS},
}
SLOT_MEANS: dict[str, tuple[str, str]] = {
    f"slot/{key}": (f"slot_{column}", f"slot_{column}_known") for key, column in _MEANS.items()
} | {"slot/foreign_rate": ("slot_foreign", "slot_total")}
"""Metric key -> the two per-image columns whose sums it is the ratio of."""


def slot_metrics(slots: Slots | None) -> dict[str, float | None]:
    """`slot/*` over the headline rollouts; all None without telemetry.

    A mean over no slot with a known value is None. `mass_p05` interpolates linearly.
    """
    keys = (
        "slot/total",
        "slot/samples",
        *SLOT_MEANS,
        "slot/mass_min",
        "slot/mass_p05",
        "slot/mass_bound_max",
    )
    if slots is None:
        return dict.fromkeys(keys)
    num_images = int(slots.image.max(initial=-1)) + 1
    sums = {name: float(values.sum()) for name, values in _sums(slots, num_images).items()}
    known = slots.coord_mass[~np.isnan(slots.coord_mass)]
    return {
        "slot/total": len(slots),
        "slot/samples": len(np.unique(slots.image)),
        **{key: ratio(sums[above], sums[below]) for key, (above, below) in SLOT_MEANS.items()},
        "slot/mass_min": float(known.min()) if len(known) else None,
        "slot/mass_p05": float(np.quantile(known, LOW_SHARE)) if len(known) else None,
        "slot/mass_bound_max": float(slots.mass_bound.max()) if len(slots) else None,
    }


def slot_per_image(slots: Slots, num_images: int) -> dict[str, Any]:
    """Sums per image of all that the metrics are ratios of, and `slot_mass_min` (null: none)."""
    import pandas as pd

    known = ~np.isnan(slots.coord_mass)
    smallest = np.full(num_images, np.inf)
    np.minimum.at(smallest, slots.image[known], slots.coord_mass[known])
    bound = np.zeros(num_images)
    np.maximum.at(bound, slots.image, slots.mass_bound)
    return {
        **_sums(slots, num_images),
        "slot_mass_min": pd.array(
            [None if np.isinf(value) else value for value in smallest.tolist()], dtype="Float64"
        ),
        "slot_bound_max": bound,
    }


def _sums(slots: Slots, num_images: int) -> dict[str, NDArray[np.float64]]:
    def per_image(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(slots.image, weights=values, minlength=num_images).astype(np.float64)

    total = per_image(np.ones(len(slots)))
    out = {
        "slot_total": total,
        "slot_samples": (total > 0).astype(np.float64),
        "slot_foreign": per_image(slots.is_foreign),
    }
    for name, (values, of_these) in _averaged(slots).items():
        known = of_these & ~np.isnan(values)
        out[f"slot_{name}"] = per_image(np.where(known, values, 0.0))
        out[f"slot_{name}_known"] = per_image(known)
    return out


def _averaged(slots: Slots) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Column name -> the values whose mean is taken, and over which slots."""
    every = np.ones(len(slots), dtype=bool)
    mass = slots.coord_mass
    first, last = _ends(slots)
    lost, judged = slots.lost()
    out = {
        "mass": (mass, every),
        "kept_mass": (mass, ~slots.is_foreign),
        "foreign_mass": (mass, slots.is_foreign),
        "first_mass": (mass, first),
        "last_mass": (mass, last),
        "top_prob": (slots.top_prob, every),
        "entropy": (slots.entropy, every),
        "lost": (lost.astype(np.float64), judged),
    }
    for limit in LOW_MASS:
        out[f"below_{limit:.2f}"] = ((mass < limit).astype(np.float64), ~np.isnan(mass))
    return out


def _ends(slots: Slots) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Slots of the first and of the last record, in samples with slots of two records or more."""
    if not len(slots):
        nothing = np.zeros(0, dtype=bool)
        return nothing, nothing
    num_images = int(slots.image.max()) + 1
    low = np.full(num_images, np.iinfo(np.int64).max)
    high = np.full(num_images, -1)
    np.minimum.at(low, slots.image, slots.record)
    np.maximum.at(high, slots.image, slots.record)
    several = (high > low)[slots.image]
    return (
        several & (slots.record == low[slots.image]),
        several & (slots.record == high[slots.image]),
    )


__all__ = ["LOW_MASS", "LOW_SHARE", "SLOT_MEANS", "slot_metrics", "slot_per_image"]
