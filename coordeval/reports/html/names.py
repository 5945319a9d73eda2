"""The list of names on the page: which class each stands for, and how that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.metrics.names.stored import names_text
from coordeval.reports.formats import number
from coordeval.reports.name_table import NO_CLASS, name_summary, similarity_text, unlike_rows
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NameList:
    """One run's names: how they were matched, counts per way, and rows of cells."""

    run: str
    matching: str
    summary: str
    rows: tuple[tuple[str, str, str, str, str, str], ...]
    more: int


def name_lists(runs: Sequence[ShownRun]) -> list[NameList]:
    """The lists of the runs whose names did not have to be equal; at most `SHOWN` rows each."""
    return [
        _listed(shown)
        for shown in runs
        if shown.result.names is not None and shown.result.rules is not None
    ]


def _listed(shown: ShownRun) -> NameList:
    rows = unlike_rows(shown.result.names or ())
    return NameList(
        run=shown.label,
        matching=printable(names_text(shown.result.protocol.get("names"))),
        summary=name_summary(shown.result.names or ()),
        rows=tuple(
            (
                printable(row.name, limit=80),
                "-" if row.class_name is None else printable(row.class_name, limit=80),
                row.by or NO_CLASS,
                similarity_text(row),
                number(row.count),
                number(row.ground_truth),
            )
            for row in rows[:SHOWN]
        ),
        more=max(len(rows) - SHOWN, 0),
    )


__all__ = ["SHOWN", "NameList", "name_lists"]
