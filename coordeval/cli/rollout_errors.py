"""What went wrong with single samples of a rollout: the first ones by name, in their own words."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from coordeval.reports.printable import printable
from coordeval.runs import open_run

if TYPE_CHECKING:
    from pathlib import Path

ERRORS_SHOWN = 3


def error_lines(run: Path, errors: int) -> list[str]:
    """One line for each of the first samples that failed; how many more there are, in a last one.

    `errors` is their number. Empty where that is 0, without reading the run.
    """
    if not errors:
        return []
    failed = (rollout for rollout in open_run(run).rollouts() if rollout.error is not None)
    shown = list(islice(failed, ERRORS_SHOWN))
    lines = [
        f"error: {printable(rollout.id, limit=80)}: {printable(rollout.error or '', limit=300)}"
        for rollout in shown
    ]
    if errors > len(shown):
        lines.append(f"... and {errors - len(shown)} more")
    return lines


__all__ = ["error_lines"]
