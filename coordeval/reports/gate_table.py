"""The outcome of a check in the terminal: failing gates first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.text import Text

from coordeval.counted import counted
from coordeval.metrics.catalogue import describe
from coordeval.reports.formats import number, signed
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordeval.stats.gates_check import CheckResult, Outcome, Status

MARKS = {"fail": "FAIL", "pass": "ok", "skipped": "skipped"}
STYLES = {"fail": "bold red", "pass": "green", "skipped": "yellow"}
HEADERS = ("", "gate", "baseline", "now", "change", "allowed", "why")


def check_report(result: CheckResult) -> Group:
    """The table of gates and the verdict; a fault is one line."""
    parts: list[NumberTable | Text] = []
    if result.outcomes:
        table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for header in HEADERS:
            is_number = header in ("baseline", "now", "change", "allowed")
            (table.add_number if is_number else table.add_text)(header)
        for status, row in rows(result):
            table.add_row(Text(MARKS[status], style=STYLES[status]), *[Text(cell) for cell in row])
        parts.append(table)
    parts += [Text(printable(note), style="yellow") for note in result.notes]
    parts.append(Text(verdict_line(result), style="bold"))
    return Group(*parts)


def rows(result: CheckResult) -> Iterator[tuple[Status, list[str]]]:
    """Status and cells per row; what holds under one pattern is one row that counts it."""
    folded: dict[tuple[Status, str], int] = {}
    for outcome in result.outcomes:
        if outcome.status == "fail" or outcome.key in outcome.gate:
            yield outcome.status, cells(outcome)
        else:
            place = outcome.status, outcome.gate
            folded[place] = folded.get(place, 0) + 1
    for (status, gate), count in folded.items():
        yield status, [printable(gate), *["-"] * 4, counted(count, "metric")]


def failures_text(result: CheckResult) -> str:
    """The verdict, and one line per failing gate."""
    lines = [verdict_line(result), *map(printable, result.notes)]
    for outcome in result.failing:
        gate, baseline, now, change, allowed, why = cells(outcome)
        lines.append(
            f"  {gate}: {why} (baseline {baseline}, now {now}, change {change}, allowed {allowed})"
        )
    return "\n".join(lines)


def cells(outcome: Outcome) -> list[str]:
    """Gate, baseline, now, change, allowed and why, safe to print."""
    gate = outcome.gate if outcome.key in outcome.gate else f"{outcome.gate} on {outcome.key}"
    why = outcome.reason
    if outcome.interval is not None:
        low, high = outcome.interval
        interval = f"95 % CI [{shown(outcome, low)}, {shown(outcome, high)}]"
        why = f"{why}; {interval}" if why else interval
    return [
        printable(gate),
        shown(outcome, outcome.baseline),
        shown(outcome, outcome.value),
        change_text(outcome),
        shown(outcome, outcome.allowed),
        printable(why),
    ]


def shown(outcome: Outcome, value: float | None) -> str:
    """A number in the metric's own unit: ratios with four decimals, counts as they are."""
    if value is None:
        return "-"
    if _is_ratio(outcome.key):
        return number(float(value), 4)
    return f"{value:,.6g}"


def change_text(outcome: Outcome) -> str:
    """The change: ratios in points, counts as they are."""
    change = outcome.change
    if change is None:
        return "-"
    return f"{signed(100 * change, 2)} pt" if _is_ratio(outcome.key) else f"{change:+z,.6g}"


def _is_ratio(key: str) -> bool:
    info = describe(key)
    return info is not None and info.unit == "ratio"


def verdict_line(result: CheckResult) -> str:
    """One line: the verdict and how many gates it rests on."""
    if result.fault is not None:
        return f"not checked: {printable(str(result.fault))}"
    judged = [outcome for outcome in result.outcomes if outcome.status != "skipped"]
    if not judged:
        return f"nothing evaluated: none of {counted(len(result.outcomes), 'gate')} could be judged"
    name = printable(result.run)
    if result.failing:
        return f"{name}: {len(result.failing)} of {counted(len(judged), 'gate')} failed"
    return f"{name}: {counted(len(judged), 'gate')} passed"


__all__ = ["HEADERS", "MARKS", "cells", "check_report", "failures_text", "rows", "verdict_line"]
