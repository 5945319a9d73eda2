"""What the loop guard saw, as the lines say: the flat `guard/*` keys and per-image columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.f1 import ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, ImageEntry

GUARD_KINDS = ("exact", "block", "near", "cycle")
OTHER_KIND = "other"


def guard_in_force(meta: Mapping[str, Any], columns: Columns) -> bool:
    """True where run.json says that a guard watched, or a line holds what one saw."""
    decode = meta.get("decode")
    settings = decode.get("guard") if isinstance(decode, dict) else None
    if isinstance(settings, dict) and settings.get("mode", "off") != "off":
        return True
    return any(_is_marked(entry) for entry in columns.images)


def guard_per_image(columns: Columns) -> dict[str, NDArray[np.int64]]:
    """Counts per image: marked, stopped, `guard_kind_<kind>`, tokens saved, onset where known."""
    images = columns.images
    kinds = [kind_of(entry) for entry in images]
    onsets = [whole_number(entry, "onset") for entry in images]
    saved = [whole_number(entry, "tokens_saved") or 0 for entry in images]
    out = {
        "guard_marked": np.array([_is_marked(entry) for entry in images], dtype=np.int64),
        "guard_stopped": np.array([is_stopped(entry) for entry in images], dtype=np.int64),
        "guard_saved": np.array(saved, dtype=np.int64),
        "guard_onset": np.array([onset or 0 for onset in onsets], dtype=np.int64),
        "guard_onset_known": np.array([onset is not None for onset in onsets], dtype=np.int64),
    }
    for kind in (*GUARD_KINDS, OTHER_KIND):
        out[f"guard_kind_{kind}"] = np.array([found == kind for found in kinds], dtype=np.int64)
    return out


def guard_metrics(columns: Columns, *, in_force: bool) -> dict[str, float | None]:
    """`guard/*` over the headline rollouts without engine error; all None without a guard."""
    keys = ("marked", "marked_rate", "stopped", "stopped_rate", "tokens_saved", "onset_mean")
    kinds = (*GUARD_KINDS, OTHER_KIND)
    if not in_force:
        return dict.fromkeys(
            [*(f"guard/{key}" for key in keys), *(f"guard/kind/{kind}" for kind in kinds)]
        )
    sums = {name: int(values.sum()) for name, values in guard_per_image(columns).items()}
    evaluated = int(columns.alive.sum())
    return {
        "guard/marked": sums["guard_marked"],
        "guard/marked_rate": ratio(sums["guard_marked"], evaluated),
        "guard/stopped": sums["guard_stopped"],
        "guard/stopped_rate": ratio(sums["guard_stopped"], evaluated),
        "guard/tokens_saved": sums["guard_saved"],
        "guard/onset_mean": ratio(sums["guard_onset"], sums["guard_onset_known"]),
        **{f"guard/kind/{kind}": sums[f"guard_kind_{kind}"] for kind in kinds},
    }


def is_stopped(entry: ImageEntry) -> bool:
    """True where the guard ended the rollout."""
    return not entry.failed and entry.finish_reason == "loop_guard"


def kind_of(entry: ImageEntry) -> str | None:
    """What repeated; `other` where the line does not say or names what this version does not know.

    None where the guard saw nothing.
    """
    if not _is_marked(entry):
        return None
    kind = (entry.guard or {}).get("kind")
    return kind if kind in GUARD_KINDS else OTHER_KIND


def _is_marked(entry: ImageEntry) -> bool:
    return entry.guard is not None or is_stopped(entry)


def whole_number(entry: ImageEntry, key: str) -> int | None:
    """A count that the line gives; None where it gives none, or something else."""
    value = (entry.guard or {}).get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


__all__ = [
    "GUARD_KINDS",
    "OTHER_KIND",
    "guard_in_force",
    "guard_metrics",
    "guard_per_image",
    "is_stopped",
    "kind_of",
    "whole_number",
]
