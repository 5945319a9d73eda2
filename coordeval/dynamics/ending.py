"""Tables over trainings: the last values of each, and the values at one common step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.dynamics.keys import key_info, read_key, report_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.keys import Split
    from coordeval.dynamics.log import TrainingLog


class Cell(NamedTuple):
    """One value, the step it was logged at, and its name in the log."""

    value: float
    step: int
    origin: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"value": self.value, "step": self.step, "origin": self.origin}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One key over all trainings; None where a training lacks it."""

    key: str
    split: Split
    known: bool
    cells: tuple[Cell | None, ...]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain data, one entry per training."""
        info = key_info(self.key)
        return {
            "key": self.key,
            "split": self.split,
            "known": self.known,
            "unit": info.unit,
            "better": info.better,
            "values": {
                name: None if cell is None else cell.to_json()
                for name, cell in zip(names, self.cells, strict=True)
            },
        }


def end_table(logs: Sequence[TrainingLog]) -> list[TableRow]:
    """The last value of every key of every log: evaluation, then training; in report order."""
    return _table(logs, None)


def snapshot(logs: Sequence[TrainingLog], step: int) -> list[TableRow]:
    """The evaluation values at exactly `step`; keys that no log holds there are left out."""
    return _table(logs, step)


def _table(logs: Sequence[TrainingLog], step: int | None) -> list[TableRow]:
    splits: tuple[Split, ...] = ("eval", "train") if step is None else ("eval",)
    rows = []
    for split in splits:
        keys = {key for log in logs for where, key in log.series if where == split}
        for key in sorted(keys, key=report_order):
            cells = tuple(_cell(log, split, key, step) for log in logs)
            if any(cell is not None for cell in cells):
                known = read_key(key).known
                rows.append(TableRow(key=key, split=split, known=known, cells=cells))
    return rows


def _cell(log: TrainingLog, split: Split, key: str, step: int | None) -> Cell | None:
    series = log.get(split, key)
    if series is None:
        return None
    if step is None:
        last_step, value = series.last
        return Cell(value, last_step, series.origin)
    found = series.at(step)
    return None if found is None else Cell(found, step, series.origin)


__all__ = ["Cell", "TableRow", "end_table", "snapshot"]
