"""Rewriting the lines of a run that nobody writes: dropping error lines, restoring the order."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from filelock import Timeout

from coordeval.errors import DataError, RunLockedError, RunNotWritten
from coordeval.folder_lock import lock_folder
from coordeval.jsonl import load_json, read_lines
from coordeval.runs import ROLLOUTS_NAME, write_atomically
from coordeval.slot_table import store_slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

Line = tuple[dict[str, "Any"], bytes]


def drop_error_lines(run_path: Path) -> int:
    """Take lines that failed (`Rollout.failed`) out of a run, to be made anew; how many."""
    dropped = 0

    def without_errors(lines: list[Line]) -> list[Line]:
        nonlocal dropped
        kept = [
            line
            for line in lines
            if line[0].get("finish_reason") != "error" and line[0].get("error") is None
        ]
        dropped = len(lines) - len(kept)
        return kept

    _rewrite(run_path, without_errors)
    return dropped


def restore_order(
    run_path: Path, keys: Sequence[tuple[str, int]], *, is_locked: bool = False
) -> None:
    """Put the lines of a run into the order of these (id, sample index); others come last.

    Resumed and parallel runs write in another order than uninterrupted ones; scoring goes by it.
    `is_locked` says that the caller holds the run's lock; it must not append lines any more.
    """
    place = {key: index for index, key in enumerate(keys)}

    def in_order(lines: list[Line]) -> list[Line]:
        return sorted(lines, key=lambda line: place.get(line_key(line[0]), len(place)))

    _rewrite(run_path, in_order, is_locked=is_locked)


def line_key(raw: dict[str, Any]) -> tuple[str, int]:
    """(id, sample index) of a line as written."""
    return str(raw.get("id")), int(raw.get("sample_index") or 0)


def repeated_lines(run_path: Path) -> list[tuple[int, int]]:
    """Lines whose (id, sample index) stood before: their number, and that of the first such line.

    For lines that were read already: what is no rollout line raises as it may.
    """
    first: dict[tuple[str, int], int] = {}
    repeated = []
    for number, line in read_lines(run_path / ROLLOUTS_NAME):
        before = first.setdefault(line_key(load_json(line)), number)
        if before != number:
            repeated.append((number, before))
    return repeated


def _rewrite(
    run_path: Path, change: Callable[[list[Line]], list[Line]], *, is_locked: bool = False
) -> None:
    path = run_path / ROLLOUTS_NAME
    if not path.exists():
        return
    try:
        with ExitStack() as held:
            if not is_locked:
                held.callback(lock_folder(run_path).release)
            lines = _read(path)
            changed = change(list(lines))
            if changed != lines:
                write_atomically(path, b"".join(line for _, line in changed))
                store_slots(path)  # its rows stand in the order of the lines
    except Timeout:
        raise RunLockedError(f"{run_path}: another process is writing this run") from None
    except OSError as error:
        raise RunNotWritten(
            f"{path}: cannot be written ({error.strerror or error}); it is as it was: "
            "mend that, and the same command goes on from there"
        ) from None


def _read(path: Path) -> list[Line]:
    lines: list[Line] = []
    for number, line in read_lines(path):
        if not line.endswith(b"\n"):
            break  # torn: it is made anew
        try:
            raw = load_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a JSON line: {error}") from None
        if not isinstance(raw, dict):
            raise DataError(f"{path}:{number}: a rollout line must be a JSON object")
        lines.append((raw, line))
    return lines


__all__ = ["drop_error_lines", "line_key", "repeated_lines", "restore_order"]
