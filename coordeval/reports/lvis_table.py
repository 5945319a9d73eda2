"""Federated AP in the terminal, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box

from coordeval.counted import counted
from coordeval.reports.formats import number, points
from coordeval.reports.number_table import NumberTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR@300")


def lvis_table(metrics: Mapping[str, float | int | None]) -> NumberTable:
    """One row of the numbers; `metrics` hold `lvis/*`."""
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_text("LVIS")
    for name in _SHOWN:
        table.add_number(name)
    table.add_row("boxes", *[points(metrics.get(f"lvis/{name}")) for name in _SHOWN])
    table.caption = (
        f"over {counted(metrics.get('lvis/images'), 'image')}; left out: "
        f"{counted(metrics.get('lvis/unjudged'), 'detection')} of classes that nobody looked for, "
        f"{number(metrics.get('lvis/over_limit'))} beyond 300 per image"
    )
    table.caption_justify = "left"
    return table


__all__ = ["lvis_table"]
