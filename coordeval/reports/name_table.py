"""How names found their class, for people: a sentence with counts, and the names themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.text import Text

from coordeval.counted import counted
from coordeval.reports.formats import number
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.metrics.names.table import NameRow

SHOWN = 40
NO_CLASS = "no class"


def name_summary(rows: Sequence[NameRow]) -> str:
    """Predictions per way of finding their class, in one line; all ways that occur."""
    counts: dict[str, int] = {}
    for row in rows:
        way = row.by or NO_CLASS
        counts[way] = counts.get(way, 0) + row.count
    order = ("exact", "synonym", "embedding", NO_CLASS)
    parts = [f"{way} {number(counts[way])}" for way in order if counts.get(way)]
    return ", ".join(parts) or "no predictions"


def unlike_rows(rows: Sequence[NameRow]) -> list[NameRow]:
    """The names that are not written like their class, those without one last."""
    return sorted(
        (row for row in rows if row.by != "exact"), key=lambda row: row.class_name is None
    )


def name_table(rows: Sequence[NameRow]) -> NumberTable:
    """The names that were mapped, and those that have no class; at most `SHOWN`."""
    unlike = unlike_rows(rows)
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("names that equal no class", "class", "by"):
        table.add_text(header)
    for header in ("similarity", "predictions", "ground truth"):
        table.add_number(header)
    for row in unlike[:SHOWN]:
        table.add_row(
            printable(row.name, limit=40),
            Text("-", "yellow") if row.class_name is None else printable(row.class_name, limit=40),
            row.by or NO_CLASS,
            similarity_text(row),
            number(row.count),
            number(row.ground_truth),
        )
    left_out = len(unlike) - SHOWN
    more = (
        f"; {counted(left_out, 'more name')} (name_mapping.json lists all)" if left_out > 0 else ""
    )
    table.caption = f"predictions by how their class was found: {name_summary(rows)}{more}"
    table.caption_justify = "left"
    return table


def similarity_text(row: NameRow) -> str:
    """The cosine, empty where none was measured."""
    return "" if row.similarity is None else f"{row.similarity:.3f}"


__all__ = ["NO_CLASS", "SHOWN", "name_summary", "name_table", "similarity_text", "unlike_rows"]
