"""Coordinate-slot telemetry: how each recorded quantity behaves at x1, y1, x2 and y2.

Reads `slots.parquet` where a run directory has one. Any column of shares (numbers from 0 to 1) is
drawn as its mean per slot, so that new quantities show without a change here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import DataError
from coordeval.reports.charts.figure import Figure, base_spec
from coordeval.reports.formats import percent
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from coordeval.reports.charts.shown import ShownRun

NAME = "slots"
TITLE = "Coordinate slots"
LEAD = "Mean of what was recorded at each coordinate slot, before any mask."
FILE_NAME = "slots.parquet"
SLOT_NAMES = ("x1", "y1", "x2", "y2")
MISSING = f"No run recorded slot telemetry ({FILE_NAME})."


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Bars of means per slot and quantity. Raises DataError for a file that is not Parquet."""
    rows: list[dict[str, Any]] = []
    for shown in runs:
        path = shown.run.path / FILE_NAME
        if shown.run.is_directory and path.is_file():
            rows += _rows(shown.label, _read(path))
    if not rows:
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing=MISSING)
    alt = "; ".join(
        f"{row['run']}: {row['quantity']} {percent(row['mean'])} at {row['slot']}"
        for row in rows[:16]
    )
    labels = [shown.label for shown in runs]
    spec = base_spec(
        TITLE,
        alt,
        rows,
        mark={"type": "line", "point": {"size": 40, "filled": True}},
        encoding={
            "x": {
                "field": "slot",
                "type": "ordinal",
                "sort": list(SLOT_NAMES),
                "axis": {"labelAngle": 0},
                "title": "slot",
            },
            "y": {
                "field": "mean",
                "type": "quantitative",
                "axis": {"format": "~%"},
                "title": "mean",
            },
            "color": {"field": "quantity", "type": "nominal", "title": None},
            "strokeDash": {
                "field": "run",
                "type": "nominal",
                "scale": {"domain": labels},
                "title": None,
                **({"legend": None} if len(labels) == 1 else {}),
            },
            "tooltip": [
                {"field": "run"},
                {"field": "quantity"},
                {"field": "slot"},
                {"field": "mean", "format": ".1%"},
                {"field": "slots"},
            ],
        },
    )
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=spec)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None


def _rows(run: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    if "slot" not in table.columns or not len(table):
        return []
    boxes = table[table["slot"].isin(range(len(SLOT_NAMES)))]
    out = []
    for column in boxes.select_dtypes(include=["number"]).columns:
        values = boxes[column].dropna()
        if column == "slot" or not len(values) or values.min() < 0 or values.max() > 1:
            continue
        for slot, group in boxes.groupby("slot")[column]:
            if group.notna().any():
                out.append(
                    {
                        "run": run,
                        "quantity": printable(str(column), limit=40),
                        "slot": SLOT_NAMES[int(str(slot))],
                        "mean": round(float(group.mean()), 5),
                        "slots": int(group.notna().sum()),
                    }
                )
    return out


__all__ = ["FILE_NAME", "LEAD", "NAME", "TITLE", "figure"]
