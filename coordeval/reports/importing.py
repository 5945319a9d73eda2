"""What became of an import, for the terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.text import Text

from coordeval.counted import counted
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from coordeval.exchange.importing import ImportSummary

REMARKS = {
    "padding_removed": "texts lost the padding behind their end token",
    "gt_bin_1000_clamped": "ground-truth objects had bin 1000, taken as 999",
    "logprobs_without_token_ids": "samples have log-probabilities but no token ids: left out",
    "token_ids_unusable": "samples have token ids that are none: left out, with log-probabilities",
    "logprobs_unusable": "samples have log-probabilities of another length or not finite: left out",
    "id_stands_twice": "samples share an id with another text: #2, #3, ... appended",
    "text_of_exactly_4000_characters": "texts have exactly 4000 characters: the dump cut them?",
}


def render_import(summary: ImportSummary) -> Text:
    """The counts, what was left out and why, and the cross-check of reported drops."""
    text = Text(printable(str(summary.out)), style="bold")
    text.append(f"  {summary.written} of {counted(summary.read, 'sample')} imported\n")
    if len(summary.steps) > 1:
        text.append(f"  {len(summary.steps)} steps: ids start with step-N/\n", style="dim")
    if summary.copies:
        text.append(
            f"  {counted(summary.copies, 'exact copy', 'exact copies')} "
            "of other samples not written again\n"
        )
    for reason, count in summary.left_out.most_common():
        text.append(f"  left out: {count} {reason}", style="yellow")
        text.append(f"  e.g. {printable(summary.examples[reason][0], limit=200)}\n")
    for name, count in summary.remarks.most_common():
        text.append(f"  {count} {REMARKS.get(name, name)}\n", style="dim")
    check = summary.cross_check
    if check.samples:
        text.append(
            f"  drops: {check.reported_dropped} reported, {check.found_dropped} found in the "
            f"texts; {check.agreeing} of {counted(check.samples, 'sample')} agree\n"
        )
        for reason, counts in check.by_reason().items():
            name = printable(reason, limit=60)
            text.append(f"    {name}: {counts['reported']} reported, {counts['found']} found\n")
        for name, reported, found in check.differing[:5]:
            text.append(f"    {printable(name, limit=80)}: {reported} reported, {found} found\n")
    text.append(f"next: {printable(shlex.join(['coordeval', 'score', str(summary.out)]))}")
    return text


__all__ = ["render_import"]
