"""A comparison in the terminal: what is the same, what differs, the verdicts, and why."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.text import Text

from coordeval.counted import counted
from coordeval.reports.comparison_values import (
    WORDS,
    difference_text,
    differs_text,
    drop_name,
    examples_text,
    interval_text,
    method_text,
    most_changed,
    same_text,
    slice_value,
    summary_text,
    ties_text,
    value_text,
    verdict_text,
    worst_texts,
)
from coordeval.reports.formats import bar, signed
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from coordeval.stats.changes import Change
    from coordeval.stats.comparison import Comparison, Versus
    from coordeval.stats.slice_changes import SliceChange

RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n")
STYLES = {"better": "green", "worse": "red", "differs": "bold", "~": "dim"}
DROP_ROWS = 8
MOVERS_SHOWN = 3
CLASSES_SHOWN = 5
WORDS_FROM = 110


def comparison_report(
    comparison: Comparison, *, every_metric: bool = False, width: int = 110
) -> Group:
    """All sections; `every_metric` lists all metrics that differ, not only the headline ones.

    In fewer than `WORDS_FROM` columns the plain words beside the keys are left out.
    """
    parts: list[RenderableType] = [_heading(comparison)]
    parts += [Text(summary_text(comparison, versus), style="bold") for versus in comparison.versus]
    keys = _keys(comparison, every_metric=every_metric)
    two = len(comparison.runs) == 2
    if two:
        words = width >= WORDS_FROM and not every_metric
        parts.append(_pair_table(comparison, keys, words=words))
    else:
        parts.append(_many_table(comparison, keys))
    ties = ties_text(comparison)
    if ties:
        parts.append(Text(ties, style="dim"))
    if not every_metric:
        parts.append(_others(comparison))
    for versus in comparison.versus:
        parts += _why(comparison, versus)
    parts += [Text(), Text(method_text(comparison), style="dim")]
    return Group(*parts)


def _heading(comparison: Comparison) -> Text:
    text = Text()
    for run in comparison.runs:
        text.append(f"{run.label}  ", style="bold")
        text.append(printable(run.path))
        if run.status != "complete":
            text.append(f"  [{run.status}]", style="bold yellow")
        text.append("\n")
    text.append("same     ", style="bold")
    text.append(same_text(comparison) + "\n")
    lines = differs_text(comparison) or ["nothing that the runs record"]
    text.append("differs  ", style="bold")
    text.append(("\n" + " " * 9).join(lines) + "\n")
    for mismatch in comparison.mismatches:
        text.append(f"NOT COMPARABLE, compared all the same: {printable(mismatch)}\n", "bold red")
    for note in comparison.notes:
        text.append(f"note: {printable(note)}\n", style="yellow")
    return text


def _keys(comparison: Comparison, *, every_metric: bool) -> list[str]:
    if not every_metric:
        return list(comparison.headline)
    keys = dict.fromkeys(key for versus in comparison.versus for key in versus.changes)
    return [
        key
        for key in keys
        if any(versus.changes[key].delta for versus in comparison.versus)
        or key in comparison.headline
    ]


def _table(*headers: str) -> NumberTable:
    """A plain table: the first column is text, the next three are numbers, the rest is text."""
    table = NumberTable(box=RULE, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for number, header in enumerate(headers):
        if 0 < number < 4:
            table.add_number(header)
        else:
            table.add_text(header)
    return table


def _pair_table(comparison: Comparison, keys: Sequence[str], *, words: bool) -> NumberTable:
    (versus,) = comparison.versus
    headers = ("", "A", "B", "B - A", "95 % interval", "verdict")
    table = _table(*headers)
    if words:
        table.add_text()
    for key in keys:
        change = versus.changes[key]
        cells: list[RenderableType] = [
            Text(printable(key, limit=44)),
            value_text(change, change.a),
            value_text(change, change.b),
            difference_text(change, change.delta),
            Text(interval_text(change)),
            Text(verdict_text(change), style=STYLES.get(change.verdict or "", "")),
        ]
        table.add_row(*cells, *([Text(WORDS.get(key, ""), style="dim")] if words else []))
    return table


def _many_table(comparison: Comparison, keys: Sequence[str]) -> NumberTable:
    labels = [versus.label for versus in comparison.versus]
    table = _table("", "A")
    for label in labels:
        table.add_number(label)
        table.add_number(f"{label} - A", justify="left")
    for key in keys:
        first = comparison.versus[0].changes.get(key)
        if first is None:
            continue
        cells: list[RenderableType] = [printable(key, limit=44), value_text(first, first.a)]
        for versus in comparison.versus:
            change = versus.changes.get(key)
            cells += ["-", ""] if change is None else _change_cells(change)
        table.add_row(*cells)
    return table


def _change_cells(change: Change) -> list[RenderableType]:
    text = f"{difference_text(change, change.delta)} {change.verdict or ''}"
    return [
        value_text(change, change.b),
        Text(text.rstrip(), style=STYLES.get(change.verdict or "", "")),
    ]


def _others(comparison: Comparison) -> Text:
    """How many of the metrics that are not in the table differ."""
    keys = {
        key
        for versus in comparison.versus
        for key, change in versus.changes.items()
        if not change.headline and change.verdict in ("better", "worse", "differs")
    }
    if not keys:
        return Text()
    return Text(f"{len(keys)} further metrics differ: --all shows them", style="dim")


def _why(comparison: Comparison, versus: Versus) -> list[RenderableType]:
    if all(not change.images_differ for change in versus.changes.values()):
        return []
    parts: list[RenderableType] = [Text()]
    parts += _drops(versus)
    parts.append(Text())
    parts += [Text(line) for line in worst_texts(versus)]
    parts += _movers(comparison, versus)
    parts += [Text(), *_slices(versus)]
    return parts


def _drops(versus: Versus) -> list[RenderableType]:
    label = versus.label
    rows = [row for row in versus.drops if any(row.counts)]
    if not rows:
        return [Text("no record is dropped in either run")]
    table = _table("why records are dropped", "A", label)
    table.add_number(justify="left")
    table.add_text()
    largest = max(max(row.counts) for row in rows)
    for row in rows[:DROP_ROWS]:
        example = examples_text(row.examples[1][:2] or row.examples[0][:2])
        table.add_row(
            Text(drop_name(row)),
            f"{row.counts[0]:,}",
            f"{row.counts[1]:,}",
            Text(bar(row.counts[1], largest, 16), style="red"),
            Text(f"e.g. {example}" if example else "", style="dim"),
        )
    if len(rows) > DROP_ROWS:
        table.add_row(f"{len(rows) - DROP_ROWS} further reasons", "", "", "", "")
    return [table]


def _movers(comparison: Comparison, versus: Versus) -> list[RenderableType]:
    movers = versus.movers
    if movers is None or not (movers.num_up or movers.num_down):
        return []
    text = Text(
        f"by F1 {counted(movers.num_up, 'image is', 'images are')} better, {movers.num_down} worse"
    )
    run = next(run for run in comparison.runs if run.label == versus.label)
    for word, images in (("worst", movers.down), ("best", movers.up)):
        if images:
            shown = ", ".join(
                f"{printable(mover.id, limit=40)} ({signed(mover.contribution, 4)})"
                for mover in images[:MOVERS_SHOWN]
            )
            text.append(f"; {word}: {shown}")
    lines: list[RenderableType] = [text]
    first = (movers.down or movers.up)[0]
    command = shlex.join(["coordeval", "inspect", run.path, first.id])
    lines.append(Text(f"look at one: {printable(command)}", style="dim", overflow="fold"))
    return lines


def _slices(versus: Versus) -> list[RenderableType]:
    rows: list[tuple[str, SliceChange]] = []
    for kind, head in (
        ("objects", "objects in the image"),
        ("size", "object size"),
        ("crowding", "crowding (recall)"),
    ):
        parts = [part for part in versus.slices if part.kind == kind]
        rows += [(f"{head}: {part.name}", part) for part in parts if len(parts) > 1]
    classes = most_changed(versus, "class", CLASSES_SHOWN)
    rows += [(f"class: {printable(part.name, limit=32)}", part) for part in classes]
    if not rows:
        return []
    headers = (
        f"where F1 of {versus.label} changes",
        "A",
        versus.label,
        "change",
        "95 %",
        "objects",
    )
    table = _table(*headers)
    for name, part in rows:
        interval = ""
        if part.low is not None and part.high is not None:
            interval = f"[{signed(part.low, 2)}, {signed(part.high, 2)}]"
        table.add_row(
            Text(name),
            slice_value(part.a),
            slice_value(part.b),
            slice_value(part.delta, sign=True),
            Text(interval),
            f"{part.objects:,}",
        )
    return [table]


__all__ = ["comparison_report"]
