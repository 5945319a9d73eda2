"""How far off coordinates are, in bins, on the objects that were found (IoU .50)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.coords import frame_named
from coordeval.metrics.geometry import image_scales
from coordeval.metrics.tables import headline_row
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number, percent, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.reports.charts.shown import ShownRun

NAME = "bin_errors"
TITLE = "Coordinate error"
LIMIT = 25
LEAD = (
    "Written minus true coordinate of matched boxes, in bins (1,000 bins span the image). "
    f"The outermost steps hold everything beyond ±{LIMIT} bins."
)
SIDES = ("x1", "y1", "x2", "y2")


def figure(runs: Sequence[ShownRun]) -> Figure:
    """A histogram per run over all four coordinates; nothing to draw without matched boxes."""
    rows, sentences = [], []
    for shown in runs:
        errors = bin_errors(shown.result)
        if not errors.size:
            continue
        rows += _rows(shown.label, errors)
        bias = ", ".join(
            f"{side} {signed(value, 2)}"
            for side, value in zip(SIDES, errors.mean(axis=0), strict=True)
        )
        absolute = np.abs(errors)
        sentences.append(
            f"{shown.label}: median {number(float(np.median(absolute)), 1)} bins, "
            f"{percent(float(np.mean(absolute <= 5)))} within 5 bins; mean error {bias}"
        )
    if not rows:
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing="No box was matched.")
    alt = "; ".join(sentences)
    labels = [shown.label for shown in runs]
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=_spec(rows, alt, labels))


def bin_errors(result: ScoreResult) -> NDArray[np.float64]:
    """(matched boxes, 4) of written minus true x1, y1, x2, y2 in bins; polygons by their hulls.

    Pairs are those of the headline threshold. Empty where nothing is matched.
    """
    columns = result.columns
    partner = result.scored.aware.partner[headline_row(result.scored.aware)]
    rows = np.flatnonzero(partner >= 0)
    frame = frame_named(result.reading["frame"])
    extents = image_scales(frame, columns.sizes_wh)[columns.pred.shapes.image[rows]]
    difference = columns.pred.shapes.boxes[rows] - columns.gt.shapes.boxes[partner[rows]]
    # An image one pixel wide has no extent along that axis, and no error in it either.
    extents = np.tile(np.where(extents > 0, extents, np.inf), 2)
    return np.asarray(difference * frame.denominator / extents, dtype=np.float64)


def _rows(run: str, errors: NDArray[np.float64]) -> list[dict[str, Any]]:
    whole = np.clip(np.rint(errors).astype(np.int64), -LIMIT, LIMIT).ravel()
    counts = np.bincount(whole + LIMIT, minlength=2 * LIMIT + 1)
    return [
        {
            "run": run,
            "error": error,
            "share": round(count / len(whole), 5),
            "coordinates": count,
        }
        for error, count in zip(range(-LIMIT, LIMIT + 1), counts.tolist(), strict=True)
    ]


def _spec(rows: list[dict[str, Any]], alt: str, labels: list[str]) -> dict[str, Any]:
    encoding = {
        "x": {
            "field": "error",
            "type": "quantitative",
            "title": "written − true, in bins",
            "scale": {"domain": [-LIMIT, LIMIT], "nice": False},
        },
        "y": {
            "field": "share",
            "type": "quantitative",
            "title": "share of coordinates",
            "axis": {"format": "~%"},
            # Overlaid, not stacked: each run's own shares add up to 1.
            "stack": None,
        },
        "color": run_colour(labels),
        "tooltip": [
            {"field": "run"},
            {"field": "error", "title": "bins"},
            {"field": "share", "format": ".1%"},
            {"field": "coordinates"},
        ],
    }
    area = {
        "type": "area",
        "interpolate": "step",
        "fillOpacity": 0.18,
        "line": {"strokeWidth": 2},
    }
    return base_spec(TITLE, alt, rows, mark=area, encoding=encoding)


__all__ = ["LEAD", "NAME", "TITLE", "bin_errors", "figure"]
