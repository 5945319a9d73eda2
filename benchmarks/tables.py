"""What a benchmark found: tables of raw values, shown alike in a terminal and in the docs.

A cell is a text, a number, a median with its interval, or None. Columns carry the format of their
numbers, so that a stored result can be shown again from its JSON alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rounds import Ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

Cell = str | float | int | list[float] | Ratio | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`columns` are (heading, format of its numbers); `notes` stand below the table."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.title, row)

    def shown(self) -> list[list[str]]:
        """All cells as text, the headings first."""
        specs = [spec for _, spec in self.columns]
        return [
            [heading for heading, _ in self.columns],
            *(
                [show(cell, spec) for cell, spec in zip(row, specs, strict=True)]
                for row in self.rows
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def table_from_json(raw: dict[str, Any]) -> Table:
    """A table as `to_json` wrote it."""
    return Table(
        title=raw["title"],
        columns=tuple((heading, spec) for heading, spec in raw["columns"]),
        rows=tuple(tuple(row) for row in raw["rows"]),
        notes=tuple(raw["notes"]),
    )


def show(cell: Cell, spec: str) -> str:
    """One cell: "-" for None, `1.02 [0.99, 1.05]` for a median with its interval."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list | tuple):
        middle, low, high = (format(value, spec) for value in cell)
        return f"{middle} [{low}, {high}]"
    return format(cell, spec)


def is_right(table: Table, column: int) -> bool:
    """Whether a column holds numbers: those stand at the right."""
    return not any(isinstance(row[column], str) for row in table.rows[:1])


def as_text(table: Table) -> str:
    """A table for a terminal."""
    rows = table.shown()
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    right = [is_right(table, column) for column in range(len(table.columns))]
    lines = [table.title]
    for row in rows:
        cells = [
            text.rjust(width) if on_right else text.ljust(width)
            for text, width, on_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    lines.extend(f"  {note}" for note in table.notes)
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A table for a page, with its title above in bold and its notes below."""
    rows = [[text.replace("|", "\\|") for text in row] for row in table.shown()]
    rule = ["---:" if is_right(table, column) else "---" for column in range(len(table.columns))]
    lines = [f"**{table.title}**", "", _line(rows[0]), _line(rule), *map(_line, rows[1:])]
    for note in table.notes:
        lines += ["", note]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


__all__ = ["Cell", "Table", "as_markdown", "as_text", "show", "table_from_json"]
