"""Coordinate-slot telemetry: how undecided the bins are among themselves at each slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.reports.charts.slot_means import ENTROPY, mean_figure, slot_rows
from coordeval.reports.charts.slots import SLOT_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun

NAME = "slot_entropy"
TITLE = "Entropy of the bins"
LEAD = (
    "Mean entropy of the coordinate bins among themselves; 0 is certain, 6.9 nats is any of the "
    "thousand alike."
)


def figure(runs: Sequence[ShownRun]) -> Figure:
    """A line per run: mean entropy in nats at each slot."""
    rows = [
        row | {"slot": SLOT_NAMES[row["slot"]]}
        for shown in runs
        for row in slot_rows(
            shown, by="slot", places=range(len(SLOT_NAMES)), quantities={ENTROPY: "entropy"}
        )
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
        share=False,
    )


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
