"""What a reader must know before comparing the runs of one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.counted import counted
from coordeval.reports.formats import number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun


def report_warnings(runs: Sequence[ShownRun], refusal: str | None = None) -> list[str]:
    """Sentences, worst first: nothing evaluated, unfinished runs, runs that do not compare.

    `refusal` is why no changes between the runs could be given.
    """
    out = [
        f"{shown.label}: nothing was evaluated; it holds no sample without an engine error."
        for shown in runs
        if shown.result.status == "empty"
    ]
    out += [
        f"{shown.label}: the run is not finished; numbers are over what is there."
        for shown in runs
        if shown.result.status == "partial"
    ]
    if refusal is not None:
        out.append(f"No changes between the runs are given: {printable(refusal)}")
    for shown in runs[1:]:
        out += _unpaired(runs[0], shown)
    return out


def _unpaired(first: ShownRun, other: ShownRun) -> list[str]:
    mine = {entry.id for entry in first.result.columns.images}
    theirs = {entry.id for entry in other.result.columns.images}
    if mine == theirs or not mine & theirs:
        return []
    sentence = (
        f"{first.label} and {other.label} share {counted(len(mine & theirs), 'image')}; "
        f"{counted(len(mine - theirs), 'stands', 'stand')} only in the first, "
        f"{number(len(theirs - mine))} only in the other. Changes are over the shared ones."
    )
    return [sentence]


__all__ = ["report_warnings"]
