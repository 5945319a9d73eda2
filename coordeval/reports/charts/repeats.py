"""How often objects are written again: images by the number of repeated records they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.counted import counted
from coordeval.metrics.dup_metrics import per_image_counts
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "repeats"
TITLE = "Repeated objects"
LEAD = (
    "Images by how many of their records repeat an earlier one, exactly or nearly "
    "(same name, IoU ≥ 0.90). Images without a repeat are not drawn."
)
BANDS: tuple[tuple[int, int | None, str], ...] = (
    (1, 1, "1"),
    (2, 3, "2–3"),
    (4, 7, "4–7"),
    (8, 15, "8–15"),
    (16, 31, "16–31"),
    (32, None, "32 and more"),
)


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Bars of images per band of repeats; nothing to draw where nothing is repeated."""
    rows = [row for shown in runs for row in _rows(shown)]
    if not any(row["images"] for row in rows):
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing="No object was written twice.")
    alt = "; ".join(_sentence(shown) for shown in runs)
    labels = [shown.label for shown in runs]
    spec = base_spec(
        TITLE,
        alt,
        rows,
        mark={"type": "bar", "cornerRadiusEnd": 2},
        encoding={
            "x": {
                "field": "repeats",
                "type": "ordinal",
                "sort": [name for _, _, name in BANDS],
                "title": "repeated records in one image",
                "axis": {"labelAngle": 0},
            },
            "xOffset": {"field": "run", "sort": labels},
            "y": {
                "field": "images",
                "type": "quantitative",
                "title": "images",
                "axis": {"tickMinStep": 1},
            },
            "color": run_colour(labels),
            "tooltip": [{"field": field} for field in ("run", "repeats", "images", "of all")],
        },
    )
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=spec)


def _rows(shown: ShownRun) -> list[dict[str, Any]]:
    result = shown.result
    repeats = per_image_counts(result.duplicates.exact | result.duplicates.near, result.columns)
    out = []
    for low, high, name in BANDS:
        inside = repeats >= low if high is None else (repeats >= low) & (repeats <= high)
        count = int(np.count_nonzero(inside))
        share = count / len(repeats) if len(repeats) else None
        out.append({"run": shown.label, "repeats": name, "images": count, "of all": percent(share)})
    return out


def _sentence(shown: ShownRun) -> str:
    metrics = shown.result.metrics
    return (
        f"{shown.label}: {number(metrics['dup/exact_objects'])} exact and "
        f"{counted(metrics['dup/near_objects'], 'near repeat')}, "
        f"{counted(metrics['dup/loop_samples'], 'image')} with a loop"
    )


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
