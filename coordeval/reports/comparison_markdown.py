"""A comparison as Markdown, for pull requests, notes and CI step summaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
from coordeval.reports.formats import signed
from coordeval.reports.printable import printable, unlinked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.stats.comparison import Comparison, Versus

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
MOVERS_SHOWN = 5
CLASSES_SHOWN = 10


def markdown_text(text: str) -> str:
    """Foreign text as literal Markdown: no markup, no HTML, no table breaks, links or mentions."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return unlinked(_SPECIAL.sub(r"\\\1", safe)).replace("@", "&#64;").replace("://", "&#58;//")


def comparison_markdown(comparison: Comparison, *, every_metric: bool = False) -> str:
    """All sections as one Markdown document; `every_metric` lists all metrics that differ."""
    lines = ["## coordeval compare", ""]
    lines += [
        f"- **{run.label}** {markdown_text(run.path)}"
        + ("" if run.status == "complete" else f" ({run.status})")
        for run in comparison.runs
    ]
    lines.append(f"- same: {markdown_text(same_text(comparison))}")
    lines += [f"- differs: {markdown_text(line)}" for line in differs_text(comparison)]
    lines += [
        f"- **not comparable, compared all the same:** {markdown_text(mismatch)}"
        for mismatch in comparison.mismatches
    ]
    lines += [f"- note: {markdown_text(note)}" for note in comparison.notes]
    for versus in comparison.versus:
        lines += ["", f"**{markdown_text(summary_text(comparison, versus))}**", ""]
        lines += _metric_table(comparison, versus, every_metric=every_metric)
        lines += _drop_table(versus)
        lines += _reasons(versus)
        lines += _slice_table(versus)
    ties = ties_text(comparison)
    lines += ["", markdown_text(ties)] if ties else []
    lines += ["", f"<sub>{markdown_text(method_text(comparison))}</sub>", ""]
    return "\n".join(lines)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose cells are already Markdown; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(headers) + " |"]
    lines.append("|---" + "|---:" * (len(headers) - 1) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return lines


def _metric_table(comparison: Comparison, versus: Versus, *, every_metric: bool) -> list[str]:
    keys = list(comparison.headline)
    if every_metric:
        keys += [k for k, change in versus.changes.items() if change.delta and k not in keys]
    rows = []
    for key in keys:
        change = versus.changes[key]
        verdict = markdown_text(verdict_text(change))
        words = f"<br><sub>{WORDS[key]}</sub>" if key in WORDS else ""
        rows.append(
            (
                markdown_text(key) + words,
                value_text(change, change.a),
                value_text(change, change.b),
                difference_text(change, change.delta),
                markdown_text(interval_text(change)),
                f"**{verdict}**" if change.verdict in ("better", "worse") else verdict,
            )
        )
    headers = ("", "A", versus.label, f"{versus.label} - A", "95 % interval", "verdict")
    return _table(headers, rows)


def _drop_table(versus: Versus) -> list[str]:
    rows = [
        (
            markdown_text(drop_name(row)),
            f"{row.counts[0]:,}",
            f"{row.counts[1]:,}",
            markdown_text(examples_text(row.examples[1] or row.examples[0])),
        )
        for row in versus.drops
    ]
    if not rows:
        return []
    return ["", *_table(("why records are dropped", "A", versus.label, "for example"), rows)]


def _reasons(versus: Versus) -> list[str]:
    lines = [""] + [f"- {markdown_text(line)}" for line in worst_texts(versus)]
    movers = versus.movers
    if movers is None:
        return lines
    for word, number, images in (
        ("worse", movers.num_down, movers.down),
        ("better", movers.num_up, movers.up),
    ):
        shown = ", ".join(
            f"{markdown_text(mover.id)} ({signed(mover.contribution, 4)})"
            for mover in images[:MOVERS_SHOWN]
        )
        lines.append(f"- images {word} by F1: {number}" + (f"; most: {shown}" if shown else ""))
    return lines


def _slice_table(versus: Versus) -> list[str]:
    parts = [part for part in versus.slices if part.kind != "class"]
    parts += most_changed(versus, "class", CLASSES_SHOWN)
    rows = []
    for part in parts:
        interval = ""
        if part.low is not None and part.high is not None:
            interval = markdown_text(f"[{signed(part.low, 2)}, {signed(part.high, 2)}]")
        rows.append(
            (
                markdown_text(f"{part.kind}: {part.name}")
                + (" (recall)" if part.measure == "recall" else ""),
                slice_value(part.a),
                slice_value(part.b),
                slice_value(part.delta, sign=True),
                interval,
                f"{part.objects:,}",
            )
        )
    if not rows:
        return []
    headers = (f"F1 of {versus.label} by", "A", versus.label, "change", "95 %", "objects")
    return ["", *_table(headers, rows)]


__all__ = ["comparison_markdown", "markdown_text"]
