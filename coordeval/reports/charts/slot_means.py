"""Means of slot telemetry over headline rollouts, as rows and as a figure of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import DataError
from coordeval.metrics.sample_run import headline_index
from coordeval.reports.charts.figure import Figure, base_spec
from coordeval.reports.formats import number, percent
from coordeval.reports.printable import printable
from coordeval.runs import read_slots
from coordeval.slot_table import PENDING_NAME, SLOT_COLUMNS, SLOTS_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from coordeval.reports.charts.shown import ShownRun
    from coordeval.runs import Run

QUANTITIES = {
    "coord_mass": "coordinate mass",
    "top_prob": "top bin",
    "other_prob": "best other token",
}
ENTROPY = "entropy"
MISSING = f"No run recorded slot telemetry ({SLOTS_NAME})."
ALT_ROWS = 16


def slot_rows(
    shown: ShownRun,
    *,
    by: str,
    places: range,
    quantities: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One row per quantity and place: `run`, `quantity`, the place under `by`, `mean`, `slots`.

    Without `quantities` the shares of a `SlotReading`, and any further column of shares that a
    table holds. Places outside `places` are left out. Empty without telemetry; raises DataError
    for a file that is not Parquet.
    """
    table = _read(shown.run)
    if table is None or by not in table.columns:
        return []
    if "sample_index" in table.columns:
        table = table[table["sample_index"] == headline_index(shown.run)]
    table = table[table[by].isin(places)]
    out = []
    for column, name in (_shares(table) if quantities is None else quantities).items():
        if column not in table.columns:
            continue
        for place, group in table.groupby(by)[column]:
            known = group.dropna()
            if len(known):
                row = {"run": shown.label, "quantity": name, by: int(str(place))}
                out.append(row | {"mean": round(float(known.mean()), 5), "slots": len(known)})
    return out


def _shares(table: pd.DataFrame) -> dict[str, str]:
    """Columns of shares and their names: the known ones, then what a newer writer may add."""
    out = {column: name for column, name in QUANTITIES.items() if column in table.columns}
    for column in table.select_dtypes(include=["number"]).columns:
        values = table[column].dropna()
        if column not in SLOT_COLUMNS and len(values) and 0 <= values.min() <= values.max() <= 1:
            out[str(column)] = printable(str(column), limit=40)
    return out


def _read(run: Run) -> pd.DataFrame | None:
    path = run.path / SLOTS_NAME
    if (run.path / PENDING_NAME).exists() or not (run.is_directory and path.is_file()):
        return read_slots(run)
    import pandas as pd
    import pyarrow as pa

    try:
        with path.open("rb") as handle:  # pyarrow takes no path that is not valid UTF-8
            return pd.read_parquet(handle)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None


def mean_figure(
    runs: Sequence[ShownRun],
    rows: Sequence[dict[str, Any]],
    *,
    name: str,
    title: str,
    lead: str,
    x: dict[str, Any],
    share: bool = True,
) -> Figure:
    """Lines over `x`, a colour per quantity and a dash per run (colours of runs for one only)."""
    if not rows:
        return Figure(name=name, title=title, lead=lead, missing=MISSING)
    shown = percent if share else number
    alt = "; ".join(
        f"{row['run']}: {row['quantity']} {shown(row['mean'])} at {x['field']} {row[x['field']]}"
        for row in rows[:ALT_ROWS]
    )
    labels = [part.label for part in runs]
    run: dict[str, Any] = {
        "field": "run",
        "type": "nominal",
        "scale": {"domain": labels},
        "title": None,
    }
    if len(labels) == 1:
        run["legend"] = None
    encoding: dict[str, Any] = {
        "x": x,
        "y": {
            "field": "mean",
            "type": "quantitative",
            "axis": {"format": "~%"} if share else {},
            "title": "mean" if share else "mean, nats",
        },
        "tooltip": [
            {"field": "run"},
            {"field": "quantity"},
            {"field": x["field"]},
            {"field": "mean", "format": ".1%" if share else ".3f"},
            {"field": "slots"},
        ],
    }
    if share:
        encoding["color"] = {"field": "quantity", "type": "nominal", "title": None}
        encoding["strokeDash"] = run
    else:
        encoding["color"] = run
    mark = {"type": "line", "point": {"size": 40, "filled": True}}
    spec = base_spec(title, alt, rows, mark=mark, encoding=encoding)
    return Figure(name=name, title=title, lead=lead, alt=alt, spec=spec)


__all__ = ["ENTROPY", "MISSING", "QUANTITIES", "mean_figure", "slot_rows"]
