"""Coordinate-slot telemetry: how each recorded share behaves at x1, y1, x2 and y2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.reports.charts.slot_means import mean_figure, slot_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun

NAME = "slots"
TITLE = "Coordinate slots"
LEAD = (
    "Mean of what was recorded at each coordinate slot, before any mask. Where the best other "
    "token comes near the top bin, control of the list is slipping."
)
SLOT_NAMES = ("x1", "y1", "x2", "y2")


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Lines of means per slot and quantity. Raises DataError for a file that is not Parquet."""
    rows = [
        row | {"slot": SLOT_NAMES[row["slot"]]}
        for shown in runs
        for row in slot_rows(shown, by="slot", places=range(len(SLOT_NAMES)))
    ]
    return mean_figure(
        runs,
        rows,
        name=NAME,
        title=TITLE,
        lead=LEAD,
        x={
            "field": "slot",
            "type": "ordinal",
            "sort": list(SLOT_NAMES),
            "axis": {"labelAngle": 0},
            "title": "slot",
        },
    )


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
