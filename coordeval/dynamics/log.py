"""One training, whatever wrote its log: series of numbers over optimizer steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from coordeval.dynamics.keys import read_key, report_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from coordeval.dynamics.keys import Split

SourceKind = Literal["jsonl", "trainer_state", "tensorboard"]


class Row(NamedTuple):
    """What a log says at one step, under the log's own key names; values may be non-finite."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One log file and its kind."""

    path: Path
    kind: SourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    """The rows of one file, in file order, and remarks on what could not be read."""

    file: LogFile
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One quantity over optimizer steps, ascending; `origin` is its name in the log."""

    key: str
    split: Split
    origin: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> tuple[int, float]:
        """The last step and its value."""
        return self.steps[-1], self.values[-1]

    def at(self, step: int) -> float | None:
        """The value at exactly that step, None where there is none."""
        place = bisect_right(self.steps, step) - 1
        return self.values[place] if place >= 0 and self.steps[place] == step else None

    def before(self, step: int) -> tuple[int, float] | None:
        """The last step at or before `step` and its value; None where there is none."""
        place = bisect_right(self.steps, step) - 1
        return (self.steps[place], self.values[place]) if place >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """All series of one training. `notes` say what was left out and why."""

    name: str
    files: tuple[LogFile, ...]
    series: dict[tuple[Split, str], Series]
    notes: tuple[str, ...]

    def get(self, split: Split, key: str) -> Series | None:
        """One series, None where the log lacks it."""
        return self.series.get((split, key))

    def best_split(self, key: str) -> Series | None:
        """The evaluation series of a key, else the training one."""
        return self.get("eval", key) or self.get("train", key)

    @property
    def keys(self) -> list[str]:
        """All keys in report order."""
        return sorted({key for _, key in self.series}, key=report_order)

    def steps(self, split: Split) -> list[int]:
        """All steps that hold anything of that split, ascending."""
        found = (series.steps for (where, _), series in self.series.items() if where == split)
        return sorted({step for steps in found for step in steps})

    @property
    def accumulation(self) -> int | None:
        """Micro-batches per optimizer step, where the log says so."""
        series = self.best_split("accum/grad_steps")
        if series is None:
            return None
        steps = max(series.values)
        return int(steps) if steps >= 1 and steps == int(steps) else None

    @property
    def has_channels(self) -> bool:
        """Whether training steps take turns between objectives, as stage 2's channels do."""
        return any(name.startswith(("loss/A1/", "loss/A2/", "loss/B/")) for name in self.origins)

    @property
    def origins(self) -> set[str]:
        """The log's own names of all series."""
        return {series.origin for series in self.series.values()}


class _Points:
    """The points of one raw key: files in order of trust; inside a file the later row wins."""

    def __init__(self) -> None:
        self.value_at: dict[int, float] = {}
        self._file_of: dict[int, int] = {}

    def add(self, file_index: int, step: int, value: float) -> None:
        if self._file_of.setdefault(step, file_index) == file_index:
            self.value_at[step] = value


def build_log(name: str, reads: Sequence[ReadLog]) -> TrainingLog:
    """Merge the files of one training; the first file that holds a point is believed.

    Where one quantity stands under several names, the preferred name is taken whole, so that no
    series mixes definitions. Values that are not finite are left out and counted in `notes`.
    """
    points: dict[str, _Points] = {}
    broken: dict[str, set[int]] = {}
    for file_index, read in enumerate(reads):
        for step, values in read.rows:
            for raw, value in values.items():
                if math.isfinite(value):
                    points.setdefault(raw, _Points()).add(file_index, step, value)
                else:
                    broken.setdefault(raw, set()).add(step)
    notes = [note for read in reads for note in read.notes]
    notes += [_broken_note(raw, steps) for raw, steps in sorted(broken.items())]
    return TrainingLog(
        name=name,
        files=tuple(read.file for read in reads),
        series=_choose(points.items()),
        notes=tuple(notes),
    )


def _choose(points: Iterable[tuple[str, _Points]]) -> dict[tuple[Split, str], Series]:
    chosen: dict[tuple[Split, str], tuple[int, str, _Points]] = {}
    for raw, found in points:
        split, key, rank, _ = read_key(raw)
        held = chosen.get((split, key))
        if held is None or rank < held[0]:
            chosen[(split, key)] = (rank, raw, found)
    out: dict[tuple[Split, str], Series] = {}
    for (split, key), (_, raw, found) in chosen.items():
        steps = tuple(sorted(found.value_at))
        out[(split, key)] = Series(
            key=key,
            split=split,
            origin=raw,
            steps=steps,
            values=tuple(found.value_at[step] for step in steps),
        )
    return out


def _broken_note(raw: str, steps: set[int]) -> str:
    first = min(steps)
    count = f"{len(steps)} values" if len(steps) > 1 else "one value"
    return f"{raw}: {count} not finite (first at step {first}), left out"


__all__ = ["LogFile", "ReadLog", "Row", "Series", "SourceKind", "TrainingLog", "build_log"]
