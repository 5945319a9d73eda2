"""Coordinate-slot telemetry along the answer: whether control slips from record to record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.reports.charts.slot_means import mean_figure, slot_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun

NAME = "slot_records"
TITLE = "Coordinate slots along the answer"
LEAD = (
    "The same means by the place of the record in the answer. A falling mass says that the model "
    "comes apart while it writes."
)
MAX_RECORDS = 60


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Lines of means per record, counted from 1, the first `MAX_RECORDS` of an answer."""
    rows = [
        row | {"record": row["record"] + 1}
        for shown in runs
        for row in slot_rows(shown, by="record", places=range(MAX_RECORDS))
    ]
    return mean_figure(
        runs,
        rows,
        name=NAME,
        title=TITLE,
        lead=LEAD,
        x={
            "field": "record",
            "type": "quantitative",
            "axis": {"tickMinStep": 1, "format": "d"},
            "scale": {"zero": False, "nice": False},
            "title": "record of the answer",
        },
    )


__all__ = ["LEAD", "MAX_RECORDS", "NAME", "TITLE", "figure"]
