"""F1 against the IoU that counts as found: how fast quality falls as boxes must fit better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "f1_iou"
TITLE = "F1 against IoU"
LEAD = (
    "A slow fall means boxes that fit well. The gap to the dashed line is lost on wrong names, "
    "the gap to the dotted line on exact repeats."
)
FAMILIES = {"f1": "as written", "f1_loc": "class ignored", "f1_dedup": "without exact repeats"}


def figure(runs: Sequence[ShownRun]) -> Figure:
    """A line per run and way of matching, over the protocol's thresholds."""
    rows = [row for shown in runs for row in _rows(shown)]
    if not rows:
        return Figure(
            name=NAME, title=TITLE, lead=LEAD, missing="No prediction and no ground truth to match."
        )
    alt = "; ".join(
        f"{row['run']}: F1 {number(row['F1'])} at IoU {row['IoU']:.2f}"
        for row in rows
        if row["matching"] == "as written" and row["IoU"] in (0.5, 0.75, 0.95)
    )
    labels = [shown.label for shown in runs]
    spec = base_spec(
        TITLE,
        alt,
        rows,
        mark={"type": "line", "point": {"size": 28, "filled": True}},
        encoding={
            "x": {
                "field": "IoU",
                "type": "quantitative",
                "scale": {"zero": False, "nice": False},
                "axis": {"format": ".2f", "tickCount": 6},
                "title": "IoU that counts as found",
            },
            "y": {
                "field": "F1",
                "type": "quantitative",
                "scale": {"domain": [0, 1]},
                "title": "F1",
            },
            "color": run_colour(labels),
            "strokeDash": {
                "field": "matching",
                "type": "nominal",
                "scale": {"domain": list(FAMILIES.values()), "range": [[1, 0], [7, 4], [2, 3]]},
                "title": None,
            },
            "tooltip": [
                {"field": "run"},
                {"field": "matching"},
                {"field": "IoU", "format": ".2f"},
                {"field": "F1", "format": ".3f"},
            ],
        },
    )
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=spec)


def _rows(shown: ShownRun) -> list[dict[str, Any]]:
    metrics = shown.result.metrics
    out = []
    for family, name in FAMILIES.items():
        for threshold in shown.result.scored.aware.thresholds:
            value = metrics.get(f"{family}/{threshold:.2f}/f1")
            if value is not None:
                out.append(
                    {
                        "run": shown.label,
                        "matching": name,
                        "IoU": threshold,
                        "F1": round(value, 4),
                    }
                )
    return out


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
