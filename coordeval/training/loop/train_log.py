"""`train_log.jsonl`: one line per optimizer step, one per evaluation, in full precision.

Lines are appended whole by the main process. After a resume at step S the lines beyond S are cut
off (the training goes through those steps again), so that the file of an interrupted and resumed
training holds the steps of an uninterrupted one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from coordeval.errors import RunNotWritten
from coordeval.jsonl import dump_line, load_json, read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG_NAME = "train_log.jsonl"


class LogNotWritten(RunNotWritten):
    """The log cannot be written (a full disk, say); the last checkpoint is as it was."""


class TrainLog:
    """Appends rows to a file; nothing on processes other than the main one (`writes` False)."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.path = folder / LOG_NAME
        self._writes = writes

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line; values that do not exist are null."""
        if not self._writes:
            return
        try:
            with self.path.open("ab") as handle:
                handle.write(dump_line(dict(row)))
        except OSError as error:
            raise LogNotWritten(
                f"{self.path}: cannot be written ({error.strerror or error}); make room and go on "
                "with --resume auto"
            ) from None

    def rewind(self, step: int) -> int:
        """Drop the lines beyond a step, torn ones too; the number of dropped lines.

        The file is replaced as a whole, so that an interruption here costs nothing.
        """
        if not self._writes or not self.path.exists():
            return 0
        kept, dropped = [], 0
        for _, line in read_lines(self.path):
            row = _row(line)
            if row is not None and int(row.get("step", 0)) <= step:
                kept.append(line)
            else:
                dropped += 1
        if dropped:
            fresh = self.path.with_suffix(".jsonl.tmp")
            fresh.write_bytes(b"".join(kept))
            os.replace(fresh, self.path)  # noqa: PTH105 - atomic
        return dropped


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run folder's log, in file order; empty without a file."""
    path = folder / LOG_NAME
    if not path.exists():
        return []
    rows = (_row(line) for _, line in read_lines(path))
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = load_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


__all__ = ["LOG_NAME", "LogNotWritten", "TrainLog", "read_log"]
