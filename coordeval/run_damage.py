"""What is wrong with a run that can be read: lines lost, torn or changed, missing telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.jsonl import load_json, read_lines
from coordeval.rollout_lines import changed_lines
from coordeval.slot_table import PENDING_NAME, SLOTS_NAME

if TYPE_CHECKING:
    from coordeval.runs import Run


def damage(run: Run) -> list[str]:
    """One sentence for everything that is left out or lacking, with its place and the remedy.

    Empty for a sound run. Lines that cannot be read are errors of the reading itself. Goes through
    the file without taking lines apart that stand as they were written; DataError where that fails.
    """
    path = run.rollouts_path
    whole, torn = _count_lines(run)
    found = _lacking(run, whole, torn)
    changed = changed_lines(path, run.frame)
    if changed:
        found.append(
            f"{path}:{changed[0]}: changed by another program after it was written "
            f"({len(changed):,} such lines): its checksum does not fit, and it is read as it stands"
        )
    decode = run.meta.get("decode")
    if run.is_directory and isinstance(decode, dict) and decode.get("telemetry") is True:
        folder = path.parent
        if whole and not any((folder / name).exists() for name in (SLOTS_NAME, PENDING_NAME)):
            found.append(
                f"{folder / SLOTS_NAME}: missing, though the run was made with telemetry: slot "
                "metrics have no value; only decoding again, into another folder, brings them back"
            )
    return found


def lacking_lines(run: Run) -> list[str]:
    """One sentence for a torn last line and one for lines that are lost; empty for a whole run.

    DataError where the lines cannot be read.
    """
    return _lacking(run, *_count_lines(run))


def _lacking(run: Run, whole: int, torn: int | None) -> list[str]:
    """The sentences on `whole` lines that can be read, where `torn` is the number of a torn one."""
    path, found = run.rollouts_path, []
    if torn is not None:
        found.append(
            f"{path}:{torn}: the last line is torn and left out; the same rollout makes it again"
        )
    counts = run.meta.get("counts")
    finished = counts.get("finished") if isinstance(counts, dict) else None
    if isinstance(finished, int) and whole < finished:
        found.append(
            f"{path}: {whole:,} lines, but run.json counts {finished:,} finished rollouts: "
            f"{finished - whole:,} are lost; the same rollout makes them again"
        )
    return found


def _count_lines(run: Run) -> tuple[int, int | None]:
    """Lines that a reader takes, and the number of a torn last one."""
    count, number, last = 0, 0, b"\n"
    for number, last in read_lines(run.rollouts_path):  # noqa: B007 - the last one is looked at
        count += 1
    if last.endswith(b"\n"):
        return count, None
    try:
        load_json(last)
    except ValueError:
        return count - 1, number
    return count, None


__all__ = ["damage", "lacking_lines"]
