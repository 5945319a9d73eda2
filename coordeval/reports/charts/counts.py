"""Count calibration: how many objects were written where so many are there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from coordeval.metrics.counts import gt_per_image, pred_per_image
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "counts"
TITLE = "Predicted against true number of objects"
TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
LEAD = (
    "One circle per pair of counts, its area the number of images; on the line the counts agree, "
    "above it too much was written. Both axes grow like a logarithm."
)


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Circles over (true, predicted) counts of images without engine error."""
    rows, sentences = [], []
    for shown in runs:
        columns, metrics = shown.result.columns, shown.result.metrics
        pairs = zip(
            gt_per_image(columns)[columns.alive].tolist(),
            pred_per_image(columns)[columns.alive].tolist(),
            strict=True,
        )
        counted = Counter(pairs)
        rows += [
            {"run": shown.label, "true": true, "predicted": predicted, "images": images}
            for (true, predicted), images in sorted(counted.items())
        ]
        mean = metrics["count/error_mean"]
        sentences.append(
            f"{shown.label}: exactly right on {percent(metrics['count/exact_rate'])} of images, "
            f"predicted minus true is {number(mean, 2)} objects per image on average"
        )
    if not rows:
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing="No image was evaluated.")
    alt = "; ".join(sentences)
    labels = [shown.label for shown in runs]
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=_spec(rows, alt, labels))


def _spec(rows: list[dict[str, Any]], alt: str, labels: list[str]) -> dict[str, Any]:
    largest = max(max(row["true"], row["predicted"]) for row in rows)
    ticks = [tick for tick in TICKS if tick <= largest]
    scale = {"type": "symlog", "constant": 2, "domain": [0, max(largest, 1)], "nice": False}

    def axis(field: str, title: str) -> dict[str, Any]:
        return {
            "field": field,
            "type": "quantitative",
            "scale": scale,
            "axis": {"values": ticks, "format": ",d"},
            "title": title,
        }

    circles = {
        "mark": {"type": "circle", "opacity": 0.6, "clip": False},
        "encoding": {
            "x": axis("true", "true objects in the image"),
            "y": axis("predicted", "predicted objects"),
            "size": {
                "field": "images",
                "type": "quantitative",
                "scale": {"range": [24, 700]},
                "legend": None,
            },
            "color": run_colour(labels),
            "tooltip": [{"field": field} for field in ("run", "true", "predicted", "images")],
        },
    }
    line = {
        "data": {"values": [{"true": tick, "predicted": tick} for tick in (0, max(largest, 1))]},
        "mark": {"type": "line", "strokeWidth": 1, "strokeDash": [4, 4], "color": "#8A8F98"},
        "encoding": {
            "x": {"field": "true", "type": "quantitative"},
            "y": {"field": "predicted", "type": "quantitative"},
        },
    }
    spec = base_spec(TITLE, alt, rows, layer=[line, circles])
    return spec | {"height": 340}


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
