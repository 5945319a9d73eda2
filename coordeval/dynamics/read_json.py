"""Rows of `trainer_state.json`, `logging.jsonl` and `train_log.jsonl`.

Logs are foreign files: sizes are limited, and only JSON is read. Diverged trainings hold `NaN` and
`Infinity`, which strict JSON forbids; they are read here, and counted where series are built.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.log import ReadLog, Row
from coordeval.errors import DataError
from coordeval.jsonl import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordeval.dynamics.log import LogFile

MAX_FILE_BYTES = 2 << 30
MAX_DOCUMENT_BYTES = 256 << 20
MAX_LINE_BYTES = 16 << 20
MAX_STEP = 10**12

_STEP_KEYS = ("step", "global_step", "global_step/max_steps", "train/global_step", "optimizer_step")
_NOT_SERIES = frozenset({*_STEP_KEYS, "epoch", "train/epoch", "max_steps", "schema_version"})
_SPLIT_KEYS = ("mode", "split", "phase")
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE
)


def read_jsonl(file: LogFile) -> ReadLog:
    """One JSON object per line; lines without a step (final summaries) are counted in the notes.

    A broken last line is a torn write and is left out with a note; a broken line elsewhere, or a
    file or line above the limits, raises DataError naming file and line.
    """
    _check_size(file, MAX_FILE_BYTES)
    rows: list[Row] = []
    without_step = 0
    notes: list[str] = []
    torn: str | None = None
    for number, line in read_lines(file.path):
        if torn is not None:
            raise DataError(torn)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{file.path}:{number}: line longer than {MAX_LINE_BYTES >> 20} MiB")
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            torn = f"{file.path}:{number}: not a JSON line: {error}"
            continue
        row = _row(raw)
        if row is None:
            without_step += 1
        elif row.values:
            rows.append(row)
    if torn is not None:
        if not rows:
            raise DataError(torn)
        notes.append(f"{file.path.name}: the last line is torn, left out")
    if without_step:
        lines = f"{without_step} lines" if without_step > 1 else "one line"
        notes.append(f"{file.path.name}: {lines} without a step (a summary?), left out")
    return ReadLog(file=file, rows=rows, notes=notes)


def read_trainer_state(file: LogFile) -> ReadLog:
    """`log_history` of a Hugging Face `trainer_state.json`; DataError where it has none."""
    _check_size(file, MAX_DOCUMENT_BYTES)
    try:
        raw = json.loads(file.path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file.path}: cannot be read: {error}") from None
    history = raw.get("log_history") if isinstance(raw, dict) else None
    if not isinstance(history, list):
        raise DataError(f"{file.path}: has no list 'log_history'; is it a trainer_state.json?")
    rows = [row for row in map(_row, history) if row is not None]
    notes = []
    if len(rows) < len(history):
        notes.append(f"{file.path.name}: {len(history) - len(rows)} entries without a step")
    return ReadLog(file=file, rows=[row for row in rows if row.values], notes=notes)


def _check_size(file: LogFile, limit: int) -> None:
    try:
        size = file.path.stat().st_size
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from None
    if size > limit:
        raise DataError(f"{file.path}: larger than {limit >> 20} MiB; no training log is so large")


def _row(raw: Any) -> Row | None:
    if not isinstance(raw, dict):
        return None
    step = next((step for key in _STEP_KEYS if (step := _step(raw.get(key))) is not None), None)
    if step is None:
        return None
    is_eval = any(raw.get(key) in ("eval", "validation", "val") for key in _SPLIT_KEYS)
    values = dict(_numbers(raw, ""))
    if is_eval:
        values = {
            key if key.startswith(("eval/", "eval_")) else f"eval/{key}": value
            for key, value in values.items()
        }
    return Row(step, values)


def _numbers(raw: dict[Any, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, float]]:
    """Every number under its key; nested objects join keys with `/`, `metrics` adds nothing."""
    for name, value in raw.items():
        if not prefix and name in _NOT_SERIES:
            continue
        key = f"{prefix}{name}"
        if isinstance(value, dict) and depth < 3:
            yield from _numbers(value, prefix if name == "metrics" else f"{key}/", depth + 1)
            continue
        number = _number(value)
        if number is not None:
            yield key, number


def _number(value: Any) -> float | None:
    """Numbers, booleans, and numbers that a logger wrote as text; None for all else."""
    if isinstance(value, str):
        return float(value) if len(value) < 40 and _NUMBER.fullmatch(value.strip()) else None
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _step(value: Any) -> int | None:
    """A step number, also from ms-swift's `40/720`."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,12})(?:/\d{1,12})?", value)
        return int(match.group(1)) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MAX_STEP and value == int(value) else None


__all__ = ["read_jsonl", "read_trainer_state"]
