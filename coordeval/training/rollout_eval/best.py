"""The best checkpoint of a training by one metric: `best.json`, and the weights in `best/`.

Both are replaced as a whole: what lies there is the best so far or the one before it, never a part.
`best/` is none of the trainer's own checkpoints, so no limit on their number removes it.
"""

from __future__ import annotations

import math
import os
import shutil
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.jsonl import dump_document, load_document
from coordeval.metrics.catalogue import describe
from coordeval.runs import write_atomically
from coordeval.training.rollout_eval.runs import PREFIX, set_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.training.rollout_eval.runs import Evaluated

BEST_FORMAT = "coordeval-best/1"
RECORD_NAME = "best.json"
FOLDER_NAME = "best"


def metric_direction(key: str) -> str:
    """`higher` or `lower`, whichever the catalogue says is better.

    Raises ConfigError for a key that it does not know, or that has no better direction.
    """
    info = describe(key)
    if info is None:
        raise ConfigError(f"best_metric: no metric {key!r}; coordeval score --json lists them")
    if info.better == "none":
        raise ConfigError(f"best_metric: neither more nor less of {key!r} is better")
    return info.better


class BestCheckpoint:
    """Keeps the best weights seen so far; an existing record is gone on with.

    `fresh` says that this training starts at its beginning: what an earlier one left is renamed.
    A metric without a value never wins, and of equals the earlier step stays.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        *,
        fresh: bool,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.metric = metric.removeprefix(PREFIX)
        self._folder = folder
        self._better = metric_direction(self.metric)
        self._record = folder / RECORD_NAME
        self.path = folder / FOLDER_NAME
        self._notify = notify
        self._held = self._open(fresh=fresh)

    def _open(self, *, fresh: bool) -> dict[str, Any] | None:
        old = self.path.with_name(f".{FOLDER_NAME}.old")
        if old.exists() and not self.path.exists():  # stopped between two renames
            old.rename(self.path)
        inner = _read(self.path / RECORD_NAME)
        if inner is None:
            return None
        if fresh:
            kept = set_aside(self.path)
            self._record.unlink(missing_ok=True)
            self._notify(f"{self.path} is of an earlier training: kept as {kept.name}")
            return None
        if inner != _read(self._record):  # stopped before the record was written
            write_atomically(self._record, _text(inner))
        if inner.get("metric") != self.metric:
            self._notify(f"{self._record} was kept by {inner.get('metric')}, now by {self.metric}")
            return None
        return inner

    @property
    def value(self) -> float | None:
        """The best value so far; None before there is any."""
        return None if self._held is None else float(self._held["value"])

    def improves(self, evaluated: Evaluated) -> bool:
        """True where an evaluation is better than all before it."""
        value = evaluated.metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return False
        best = self.value
        if best is None:
            return True
        return value > best if self._better == "higher" else value < best

    @property
    def incoming(self) -> Path:
        """Where the weights of the next best checkpoint are to be written."""
        return self.path.with_name(f".{FOLDER_NAME}.new")

    def accept(self, evaluated: Evaluated) -> None:
        """Make what was written to `incoming` the best checkpoint. OSError as it comes."""
        record = {
            "format": BEST_FORMAT,
            "metric": self.metric,
            "better": self._better,
            "value": evaluated.metrics[self.metric],
            "step": evaluated.step,
            "epoch": evaluated.epoch,
            "run": os.path.relpath(evaluated.path, self._folder),
            "checkpoint": FOLDER_NAME,
        }
        write_atomically(self.incoming / RECORD_NAME, _text(record))
        old = self.path.with_name(f".{FOLDER_NAME}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            self.path.rename(old)
        self.incoming.rename(self.path)
        self._held = record
        write_atomically(self._record, _text(record))
        shutil.rmtree(old, ignore_errors=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = load_document(path)
    except (OSError, ValueError):
        return None
    known = isinstance(raw, dict) and raw.get("format") == BEST_FORMAT
    return raw if known and isinstance(raw.get("value"), int | float) else None


def _text(record: dict[str, Any]) -> bytes:
    return dump_document(record) + b"\n"


__all__ = ["BestCheckpoint", "metric_direction"]
