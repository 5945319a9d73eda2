"""The list of the worst samples of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.text import Text

from coordeval.counted import counted
from coordeval.reports.formats import number
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    import pandas as pd


def headline_threshold(per_image: pd.DataFrame) -> str:
    """IoU .50 where the protocol has it, else its first threshold."""
    if "tp@0.50" in per_image.columns:
        return "0.50"
    return str(next(c.partition("@")[2] for c in per_image.columns if c.startswith("tp@")))


def worse_than(per_image: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The rows whose F1 is below that of the same sample in `other`; unpaired rows are left out.

    An image without anything right, wrong or missed counts as F1 1.
    """
    threshold = headline_threshold(per_image)
    here = per_image.set_index("id", drop=False)
    gap = _f1(here, threshold) - _f1(other.set_index("id"), threshold).reindex(here.index)
    return per_image[(gap < 0).to_numpy()]


def _f1(table: pd.DataFrame, threshold: str) -> pd.Series[float]:
    tp, wrong, missed = (table[f"{name}@{threshold}"].astype(float) for name in ("tp", "fp", "fn"))
    return (2 * tp / (2 * tp + wrong + missed)).fillna(1.0)


def worst_rows(per_image: pd.DataFrame, limit: int) -> list[dict[str, Any]]:
    """The rows with most wrong, missed and dropped objects, as plain data, worst first.

    Counts are those of IoU .50, or of the protocol's first threshold; ties keep run order.
    """
    threshold = headline_threshold(per_image)
    counts = [name for name in per_image.columns if str(name).startswith("drop_")]
    counts += [f"{name}@{threshold}" for name in ("fp", "fn")]
    failures = per_image[counts].to_numpy(dtype=np.int64).sum(axis=1)
    worst = np.argsort(-failures, kind="stable")[:limit]
    rows = []
    for row in per_image.iloc[worst].to_dict("records"):
        drops = _positive(row, "drop_")
        right, wrong, missed = (int(row[f"{name}@{threshold}"]) for name in ("tp", "fp", "fn"))
        rows.append(
            {
                "id": row["id"],
                "failures": wrong + missed + sum(drops.values()),
                "gt": int(row["gt"]),
                "right": right,
                "wrong": wrong,
                "missed": missed,
                "drops": drops,
                "issues": sorted(_positive(row, "issue_")),
                "loop": bool(row["loop"]),
                "error": bool(row["error"]),
                "finish_reason": row["finish_reason"],
            }
        )
    return rows


def _positive(row: dict[Any, Any], prefix: str) -> dict[str, int]:
    return {
        key.removeprefix(prefix): int(value)
        for key, value in row.items()
        if str(key).startswith(prefix) and value > 0
    }


def render_worst(rows: list[dict[str, Any]], *, total: int) -> NumberTable:
    """The rows for a terminal; says how many samples there are in all."""
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_text("sample")
    for header in ("objects", "right", "wrong", "missed"):
        table.add_number(header)
    table.add_text("dropped", style="red")
    table.add_text("issues", style="yellow")
    for row in rows:
        drops = ", ".join(f"{name} {count}" for name, count in row["drops"].items())
        issues = list(row["issues"])
        issues += ["loop"] if row["loop"] else []
        issues += ["engine error"] if row["error"] else []
        table.add_row(
            Text(printable(row["id"], limit=48)),
            *[Text(number(row[key])) for key in ("gt", "right", "wrong", "missed")],
            Text(drops),
            Text(", ".join(issues)),
        )
    table.caption = (
        f"{len(rows)} of {counted(total, 'sample')}, most wrong + missed + dropped first"
    )
    table.caption_justify = "left"
    return table


__all__ = ["headline_threshold", "render_worst", "worse_than", "worst_rows"]
