"""Tables of the Stage-2 studies: what each arm does under each stress, and over its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.dynamics.discover import read_logs
from coordeval.parsers.reasons import DROP_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from coordeval.dynamics.log import TrainingLog

    Metrics = Mapping[str, float | None]

COLUMNS: dict[str, str] = {
    "F1@.50": "f1/0.50/f1",
    "recall": "f1/0.50/recall",
    "AP": "coco/AP",
    "conforming": "samples/conforming_rate",
    "drops": "parse/dropped_invalid",
    "empty": "samples/empty_pred_rate",
    "truncated": "samples/truncated_rate",
    "loops": "dup/loop_samples",
    "repeats": "dup/exact_objects",
    "objects": "parse/objects_valid",
    "coordinate mass": "slot/mass_mean",
}
COURSE_STEPS = 4
"""How many steps of a course are shown at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One training: its metrics by stress, and values over steps by key."""

    arm: str
    seed: int
    stresses: Mapping[str, Metrics]
    course: Mapping[str, Mapping[int, float]]

    @classmethod
    def read(
        cls,
        arm: str,
        seed: int,
        folder: Path,
        stresses: Mapping[str, Metrics],
        course: Sequence[str],
    ) -> ArmResult:
        """With the course of its log; keys that the log lacks are left out."""
        found = {}
        if course:
            (log,) = read_logs([folder / "train_log.jsonl"])
            for key in course:
                found[key] = _points(log, key)
        return cls(arm=arm, seed=seed, stresses=stresses, course=found)


def _points(log: TrainingLog, key: str) -> dict[int, float]:
    series = log.best_split(key)
    return {} if series is None else dict(zip(series.steps, series.values, strict=True))


def stress_table(results: Sequence[ArmResult]) -> str:
    """Mean [min, max] over seeds for each stress and arm, and below it what was dropped and why."""
    arms = list(dict.fromkeys(result.arm for result in results))
    lines = [
        "| set | arm | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * len(COLUMNS),
    ]
    notes = []
    for stress in results[0].stresses:
        for arm in arms:
            own = [result.stresses[stress] for result in results if result.arm == arm]
            cells = [_spread([m[key] for m in own]) for key in COLUMNS.values()]
            lines.append(f"| {stress} | {arm} | " + " | ".join(cells) + " |")
            reasons = _reasons(own)
            if reasons:
                notes.append(f"- {stress}, {arm}: {reasons}")
    if notes:
        lines += ["", "Dropped records by reason, all seeds together:", "", *notes]
    return "\n".join(lines)


def _reasons(metrics: Sequence[Metrics]) -> str:
    counts = {
        name: sum(int(m[f"parse/dropped/{name}"] or 0) for m in metrics) for name in DROP_REASONS
    }
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def course_table(results: Sequence[ArmResult], keys: Sequence[str]) -> str:
    """Values over the steps of training: mean [min, max] over seeds."""
    arms = list(dict.fromkeys(result.arm for result in results))
    lines: list[str] = []
    for key in keys:
        steps = _shown_steps([result.course.get(key, {}) for result in results])
        if not steps:
            continue
        if lines:
            lines.append("")
        lines.append(f"| `{key}` | " + " | ".join(f"step {step}" for step in steps) + " |")
        lines.append("|---|" + "---:|" * len(steps))
        for arm in arms:
            own = [result.course.get(key, {}) for result in results if result.arm == arm]
            cells = [_spread([points.get(step) for points in own]) for step in steps]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown_steps(courses: Sequence[Mapping[int, float]]) -> list[int]:
    """At most COURSE_STEPS steps that every course has, spread over the training."""
    if not courses or not all(courses):
        return []
    common = sorted(set.intersection(*(set(points) for points in courses)))
    if len(common) <= COURSE_STEPS:
        return common
    chosen = np.linspace(0, len(common) - 1, COURSE_STEPS).round().astype(int)
    return [common[i] for i in chosen]


def _spread(values: Sequence[float | None], show: Callable[[float], str] | None = None) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    show = show or _short
    low, high, mean = show(min(known)), show(max(known)), show(float(np.mean(known)))
    return mean if low == high else f"{mean} [{low}, {high}]"


def _short(value: float) -> str:
    size = abs(value)
    if size >= 100 or (size >= 1 and float(value).is_integer()):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else (f"{value:.2g}" if 0 < size < 0.01 else f"{value:.3f}")


__all__ = ["COLUMNS", "ArmResult", "course_table", "stress_table"]
