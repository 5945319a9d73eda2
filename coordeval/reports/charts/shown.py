"""A scored run as a report shows it: with a short label of its own and its training step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.metrics.result import ScoreResult
    from coordeval.runs import Run

LABEL_LIMIT = 48
_STEP_RE = re.compile(r"(?:^|[^A-Za-z])(?:global_step|step|checkpoint)[_-]?(\d{1,9})(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """One run of a report. `label` is printable and differs from the other runs' labels."""

    label: str
    run: Run
    result: ScoreResult
    step: int | None


def shown_runs(scored: Sequence[tuple[Run, ScoreResult]]) -> list[ShownRun]:
    """Label runs by their folder, or by folder and parent where names repeat."""
    labels = _labels([run for run, _ in scored])
    return [
        ShownRun(label=label, run=run, result=result, step=step_of(run))
        for label, (run, result) in zip(labels, scored, strict=True)
    ]


def step_of(run: Run) -> int | None:
    """The training step: `step` in run.json, else `step_000300` or `checkpoint-300` in a name."""
    step = run.meta.get("step")
    if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
        return step
    checkpoint = run.meta.get("checkpoint")
    names = [run.name]
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("name"), str):
        names.append(checkpoint["name"])
    for name in names:
        match = _STEP_RE.search(name)
        if match:
            return int(match.group(1))
    return None


def _labels(runs: Sequence[Run]) -> list[str]:
    paths = [run.path.resolve() for run in runs]
    for depth in (1, 2, 3):
        labels = [printable("/".join(path.parts[-depth:]), limit=LABEL_LIMIT) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {label}" for number, label in enumerate(labels, start=1)]


__all__ = ["LABEL_LIMIT", "ShownRun", "shown_runs", "step_of"]
