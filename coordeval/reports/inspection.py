"""One rollout under the glass: its text record by record, what became of each, and its loops."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from coordeval.counted import counted
from coordeval.metrics.objects_table import objects_of_image
from coordeval.reports.control_notes import guard_text, weak_slots
from coordeval.reports.formats import number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from rich.console import RenderableType

    from coordeval.metrics.columns import ImageEntry
    from coordeval.metrics.loops import LoopFinding
    from coordeval.metrics.result import ScoreResult
    from coordeval.reports.control_notes import SlotNote

_TOKEN = re.compile(r"<\|coord_([0-9]+)\|>")
_STRUCTURE = re.compile(r"[\s,]*")
LOST_SHOWN = 2
STYLES = {
    "right": "green",
    "wrong": "yellow",
    "ignored": "dim",
    "unscored": "dim",
    "removed": "dim",
    "dropped": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedRecord:
    """One found record with its verdict; `note` says why in words, with slots counted from 1.

    `slots` are those of its slots where control was lost, where there is telemetry.
    """

    index: int
    start: int
    end: int
    verdict: str
    note: str
    reason: str | None
    detail: str | None
    evidence: str | None
    slot: int | None
    partner: int | None
    copy: str | None
    slots: tuple[SlotNote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that is shown of one rollout; `guard` is what the loop guard did, in words."""

    entry: ImageEntry
    records: list[InspectedRecord]
    loops: Sequence[LoopFinding]
    missed: list[dict[str, Any]]
    guard: str | None = None
    sample_index: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data: the verbatim text, its records with spans and verdicts, loops, misses."""
        entry = self.entry
        return {
            "id": entry.id,
            "sample_index": self.sample_index,
            "image": entry.image,
            "width": entry.width,
            "height": entry.height,
            "finish_reason": entry.finish_reason,
            "error": entry.error,
            "guard": entry.guard,
            "text": entry.text,
            "issues": entry.issues,
            "conforming": entry.conforming,
            "records": [asdict(record) for record in self.records],
            "loops": [asdict(loop) for loop in self.loops],
            "missed": self.missed,
        }


def inspect_image(
    result: ScoreResult, image_id: str, *, sample_index: int = 0
) -> Inspection | None:
    """Collect what is known of one image; None where the run holds no rollout of that id.

    `sample_index` says which sample the run's headline is (see `sample_of`).
    """
    entry = next((entry for entry in result.columns.images if entry.id == image_id), None)
    if entry is None:
        return None
    rows = objects_of_image(result, entry.index)
    weak = weak_slots(result.slots, entry.index)
    records = [
        _record(row, tuple(weak.get(int(row["index"]), ())))
        for row in _rows(rows[rows["role"] == "pred"])
    ]
    missed = [
        {
            "desc": row["desc"],
            "box_px": [row[f"{side}_px"] for side in ("x1", "y1", "x2", "y2")],
            "samples": row["samples"],
            "samples_found": row["samples_found"],
        }
        for row in _rows(rows[(rows["role"] == "gt") & (rows["verdict"] == "missed")])
    ]
    return Inspection(
        entry=entry,
        records=records,
        loops=result.loops_of(image_id),
        missed=missed,
        guard=guard_text(entry),
        sample_index=sample_index,
    )


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    plain = table.astype(object).where(table.notna(), None)
    for row in plain.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _record(row: dict[str, Any], slots: tuple[SlotNote, ...]) -> InspectedRecord:
    copy = "exact" if row["exact_repeat"] else "near" if row["near_repeat"] else None
    slot = None if row["slot"] is None else int(row["slot"])
    note = _drop_note(row["reason"], row["detail"], row["evidence"], slot)
    if row["reason"] is None:
        note = str(row["verdict"])
    if copy is not None:
        note += f", {copy} copy"
    note += _lost_note(slots, None if row["reason"] is None else slot)
    return InspectedRecord(
        index=int(row["index"]),
        start=int(row["start"]),
        end=int(row["end"]),
        verdict=str(row["verdict"]),
        note=note,
        reason=row["reason"],
        detail=row["detail"],
        evidence=row["evidence"],
        slot=slot,
        partner=None if row["partner"] is None else int(row["partner"]),
        copy=copy,
        slots=slots,
    )


def _lost_note(slots: tuple[SlotNote, ...], dropped_at: int | None) -> str:
    """What the model thought at the slot that a record was dropped for, and where else it slid."""
    here = next((note for note in slots if note.slot == dropped_at), None)
    text = f" ({here.text})" if here is not None and here.text else ""
    others = [note for note in slots if note is not here and note.text]
    for note in others[:LOST_SHOWN]:
        text += f"; control lost in slot {note.slot + 1} ({note.text})"
    if len(others) > LOST_SHOWN:
        text += f" and {len(others) - LOST_SHOWN} more"
    return text


def _drop_note(
    reason: str | None, detail: str | None, evidence: str | None, slot: int | None
) -> str:
    note = str(reason)
    if detail:
        note += f": {printable(detail, limit=40)}"
    if evidence is not None:
        note += f" {printable(evidence, limit=24)!s}"
    if slot is not None:
        note += f" in slot {slot + 1}"  # people count from 1
    return note


def render_inspection(inspection: Inspection, *, shorten: bool = True) -> Group:
    """The rollout for a terminal; `shorten` writes coordinate tokens as <k>."""
    entry = inspection.entry
    head = Text(printable(entry.id), style="bold")
    facts = [f"{entry.width} x {entry.height}"]
    if entry.finish_reason:
        facts.append(f"finish: {entry.finish_reason}")
    if entry.num_tokens is not None:
        facts.append(counted(entry.num_tokens, "token"))
    facts.append(f"{entry.num_valid} of {counted(entry.num_found, 'record')} kept")
    head.append("  " + ", ".join(facts), style="dim")
    if inspection.sample_index:
        head.append(f"  sample {inspection.sample_index}", style="bold")
    parts: list[RenderableType] = [head]
    if inspection.guard is not None:
        parts.append(Text(inspection.guard, style="bold magenta"))
    if entry.failed:
        said = printable(entry.error or "no reason given", limit=400)
        parts.append(Text(f"engine error: {said}; its objects count as missed", "red"))
    if entry.issues:
        parts.append(Text("issues: " + ", ".join(sorted(entry.issues)), style="yellow"))
    parts += [Text(), _body(inspection, shorten=shorten)]
    if inspection.missed:
        parts += [Text(), Text("missed:", style="bold")]
        for missed in inspection.missed:
            box = ", ".join(number(value, 1) for value in missed["box_px"])
            line = Text(f"  {printable(missed['desc'], limit=60)}  [{box}] px")
            if missed["samples"]:
                line.append(
                    f"  found by {missed['samples_found']} of {missed['samples']} other samples",
                    style="dim",
                )
            parts.append(line)
    return Group(*parts)


def _body(inspection: Inspection, *, shorten: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold", ratio=3)
    grid.add_column(overflow="fold", ratio=1)
    text = inspection.entry.text
    place = 0
    hidden: LoopFinding | None = None
    for record in sorted(inspection.records, key=lambda record: record.start):
        loop = _loop_at(inspection.loops, record.start)
        if loop is not None:
            if loop is not hidden:
                grid.add_row(*_loop_row(loop))
                hidden = loop
            place = max(place, record.end)
            continue
        _add_gap(grid, text[place : record.start], shorten=shorten)
        style = STYLES.get(record.verdict, "")
        shown = Text(_shown(text[record.start : record.end], shorten=shorten), style=style)
        if record.evidence:
            shown.highlight_words([printable(record.evidence)], style="bold reverse")
        grid.add_row(shown, Text(record.note, style=style))
        place = record.end
    for loop in inspection.loops:
        if loop.period_records is None:
            grid.add_row(*_loop_row(loop))
    _add_gap(grid, text[place:], shorten=shorten)
    return grid


def _loop_at(loops: Sequence[LoopFinding], place: int) -> LoopFinding | None:
    """The loop of records whose further copies cover that place of the text."""
    for loop in loops:
        if loop.period_records is not None and loop.onset_char <= place < loop.end_char:
            return loop
    return None


def _loop_row(loop: LoopFinding) -> tuple[Text, Text]:
    unit = "text"
    if loop.period_records is not None:
        unit = "record" if loop.period_records == 1 else f"{loop.period_records} records"
    what = Text(f"↻ the {unit} above, x {loop.repeats} in all", style="bold magenta")
    note = "loop"
    if loop.onset_token is not None:
        note += f" from token {loop.onset_token}"
    if loop.wasted_tokens is not None:
        note += f": {counted(loop.wasted_tokens, 'token')}"
    if loop.reaches_end:
        note += ", to the end"
    return what, Text(note, style="bold magenta")


def _add_gap(grid: Table, gap: str, *, shorten: bool) -> None:
    if _STRUCTURE.fullmatch(gap):
        return
    grid.add_row(Text(_shown(gap.strip(" ,"), shorten=shorten), style="dim"), Text())


def _shown(text: str, *, shorten: bool) -> str:
    if shorten:
        text = _TOKEN.sub(r"<\1>", text)
    return printable(text)


__all__ = ["InspectedRecord", "Inspection", "inspect_image", "render_inspection"]
