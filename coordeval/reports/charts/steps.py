"""Metrics over training steps, where at least two runs say which step they are from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.reports.charts.figure import Figure, base_spec
from coordeval.reports.formats import number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "steps"
TITLE = "Over training steps"
LEAD = "The same metrics on every run that names its training step; all run from 0 to 100 %."
SHOWN = {
    "f1/0.50/f1": "F1 at IoU .50",
    "f1/0.50/recall": "recall at IoU .50",
    "coco/AP": "AP",
    "samples/conforming_rate": "conforming texts",
    "parse/drop_rate": "dropped records",
    "dup/loop_rate": "images with a loop",
}


def figure(runs: Sequence[ShownRun]) -> Figure:
    """One line per metric over the steps; needs two different steps."""
    staged = sorted(
        ((shown.step, shown) for shown in runs if shown.step is not None), key=lambda item: item[0]
    )
    if len({step for step, _ in staged}) < 2:
        return Figure(
            name=NAME,
            title=TITLE,
            lead=LEAD,
            missing="Needs two runs of different steps (folders named step_000300, or a step in "
            "run.json).",
        )
    rows: list[dict[str, Any]] = []
    for step, shown in staged:
        for key, name in SHOWN.items():
            value = shown.result.metrics.get(key)
            if value is not None:
                rows.append(
                    {
                        "run": shown.label,
                        "step": step,
                        "metric": name,
                        "value": value,
                        "shown": percent(value),
                    }
                )
    alt = "; ".join(_sentence(name, rows) for name in SHOWN.values())
    spec = base_spec(
        TITLE,
        alt,
        rows,
        mark={"type": "line", "point": {"size": 36, "filled": True}},
        encoding={
            "x": {"field": "step", "type": "quantitative", "title": "training step"},
            "y": {
                "field": "value",
                "type": "quantitative",
                "scale": {"domain": [0, 1]},
                "axis": {"format": "~%"},
                "title": None,
            },
            "color": {
                "field": "metric",
                "type": "nominal",
                "scale": {"domain": list(SHOWN.values())},
                "title": None,
            },
            "tooltip": [
                {"field": "run"},
                {"field": "step"},
                {"field": "metric"},
                {"field": "shown", "title": "value"},
            ],
        },
    )
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=spec)


def _sentence(name: str, rows: list[dict[str, Any]]) -> str:
    points = [row for row in rows if row["metric"] == name]
    if not points:
        return f"{name}: no value"
    first, last = points[0], points[-1]
    return (
        f"{name}: {first['shown']} at step {number(first['step'])}, "
        f"{last['shown']} at step {number(last['step'])}"
    )


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
