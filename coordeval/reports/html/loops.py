"""The table of loops: the longest ones over all runs, each with a link to its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from coordeval.reports.formats import number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRow:
    """One loop as the page shows it."""

    run: str
    image: str
    link: str
    block: str
    repeats: str
    onset: str
    wasted: str
    reaches_end: bool


def loop_rows(runs: Sequence[ShownRun]) -> tuple[list[LoopRow], int]:
    """The longest loops (by characters from the second copy on), and how many there are in all."""
    found = [(shown, loop) for shown in runs for loop in shown.result.loops]
    found.sort(key=lambda item: item[1].onset_char - item[1].end_char)
    rows = []
    for shown, loop in found[:SHOWN]:
        image_id = shown.result.columns.images[loop.image].id
        period = loop.period_records
        block = "text" if period is None else "1 record" if period == 1 else f"{period} records"
        query = urlencode(
            {"run": shown.label, "id": image_id.encode("utf-8", "backslashreplace").decode()},
            quote_via=quote,
        )
        rows.append(
            LoopRow(
                run=shown.label,
                image=printable(image_id, limit=48),
                link=f"#{query}",
                block=block,
                repeats=number(loop.repeats),
                onset="-" if loop.onset_token is None else f"token {number(loop.onset_token)}",
                wasted="-" if loop.wasted_tokens is None else number(loop.wasted_tokens),
                reaches_end=loop.reaches_end,
            )
        )
    return rows, len(found)


__all__ = ["SHOWN", "LoopRow", "loop_rows"]
