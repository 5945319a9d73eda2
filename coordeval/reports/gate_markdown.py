"""The outcome of a check as Markdown, for CI summaries and pull-request comments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.reports.gate_table import HEADERS, MARKS, rows, verdict_line
from coordeval.reports.printable import printable, unlinked

if TYPE_CHECKING:
    from coordeval.stats.gates_check import CheckResult

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&@:-])")
_SIGNS = {"fail": "❌", "pass": "✅", "skipped": "⚪"}


def check_markdown(result: CheckResult) -> str:
    """A heading with the verdict, the table of gates with failing ones first, and notes."""
    sign = "✅" if result.exit_code == 0 else "❌"
    lines = [f"### {sign} coordeval check: {result.verdict}", "", escaped(verdict_line(result)), ""]
    if result.outcomes:
        lines.append("| " + " | ".join(HEADERS) + " |")
        lines.append("|---|---|---:|---:|---:|---:|---|")
        for status, row in rows(result):
            mark = f"{_SIGNS[status]} {MARKS[status]}"
            lines.append(f"| {mark} | " + " | ".join(map(escaped, row)) + " |")
        lines.append("")
    lines += [f"{escaped(note)}\n" for note in result.notes]
    if result.baseline is not None:
        lines.append(f"baseline: {escaped(result.baseline)}\n")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Printable text in which nothing is Markdown or HTML, and of which no site makes links."""
    return unlinked(_SPECIAL.sub(r"\\\1", printable(text)))


__all__ = ["check_markdown", "escaped"]
