"""Precision against recall as the score threshold falls, pooled over classes.

Uses the matching that F1 uses: the last point of a curve is the precision and recall of
`f1/<iou>/...`. Predictions whose scores are tied enter together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.reports.charts.shown import ShownRun

NAME = "precision_recall"
TITLE = "Precision and recall"
LEAD = (
    "Predictions enter from the highest score down; the dot is everything that was written. "
    "All classes pooled, matched as for F1; not interpolated."
)
THRESHOLDS = (0.5, 0.75)
POINTS = 160


def figure(runs: Sequence[ShownRun]) -> Figure:
    """One curve per run and IoU threshold; a dot alone where all scores are tied."""
    rows, sentences = [], []
    for shown in runs:
        matched = shown.result.scored.aware
        for threshold in THRESHOLDS:
            if threshold not in matched.thresholds:
                continue
            place = matched.thresholds.index(threshold)
            curve = precision_recall(
                shown.result.scores,
                matched.partner[place] >= 0,
                matched.ignored[place],
                int(matched.tp[place].sum() + matched.fn[place].sum()),
            )
            rows += _rows(shown.label, threshold, curve)
            if len(curve):
                sentences.append(
                    f"{shown.label} at IoU {threshold:.2f} ends at precision "
                    f"{number(float(curve[-1, 1]))} and recall {number(float(curve[-1, 0]))}"
                    + (", all scores tied" if len(curve) == 1 else "")
                )
    if not rows:
        return Figure(
            name=NAME, title=TITLE, lead=LEAD, missing="No prediction or no ground truth to draw."
        )
    alt = "; ".join(sentences)
    labels = [shown.label for shown in runs]
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=_spec(rows, alt, labels))


def precision_recall(
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    num_gt: int,
) -> NDArray[np.float64]:
    """(points, 2) of recall and precision, one point per distinct score, highest score first.

    `scores`, `right`, `ignored` (predictions); ignored ones are neither right nor wrong. Empty
    where there is no prediction that counts or no ground truth.
    """
    counted = ~ignored
    scores, right = scores[counted], right[counted]
    if not len(scores) or not num_gt:
        return np.zeros((0, 2))
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    seen = np.arange(1, len(order) + 1)
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    curve = np.column_stack([hits / num_gt, hits / seen])
    return np.asarray(curve[last_of_tie], dtype=np.float64)


def _rows(run: str, threshold: float, curve: NDArray[np.float64]) -> list[dict[str, Any]]:
    if len(curve) > POINTS:
        # Evenly in recall, so that steep stretches keep their shape; the last point always stays.
        wanted = np.linspace(0.0, curve[-1, 0], POINTS)
        places = np.unique(np.append(np.searchsorted(curve[:, 0], wanted), len(curve) - 1))
        curve = curve[np.minimum(places, len(curve) - 1)]
    last = len(curve) - 1
    return [
        {
            "run": run,
            "IoU": f"IoU {threshold:.2f}",
            "recall": round(recall, 4),
            "precision": round(precision, 4),
            "end": place == last,
        }
        for place, (recall, precision) in enumerate(curve.tolist())
    ]


def _spec(rows: list[dict[str, Any]], alt: str, labels: list[str]) -> dict[str, Any]:
    def axis(field: str) -> dict[str, Any]:
        return {
            "field": field,
            "type": "quantitative",
            "scale": {"domain": [0, 1]},
            "title": field,
        }

    shared = {
        "x": axis("recall"),
        "y": axis("precision"),
        "color": run_colour(labels),
        "tooltip": [{"field": field} for field in ("run", "IoU", "recall", "precision")],
    }
    line = {
        "mark": {"type": "line", "interpolate": "linear"},
        "encoding": {
            "strokeDash": {
                "field": "IoU",
                "type": "nominal",
                "scale": {
                    "domain": [f"IoU {threshold:.2f}" for threshold in THRESHOLDS],
                    "range": [[1, 0], [6, 4]],
                },
                "title": None,
            },
            "order": {"field": "recall", "type": "quantitative"},
        },
    }
    dot = {
        "transform": [{"filter": "datum.end"}],
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
    }
    return base_spec(TITLE, alt, rows, encoding=shared, layer=[line, dot])


__all__ = ["LEAD", "NAME", "TITLE", "figure", "precision_recall"]
