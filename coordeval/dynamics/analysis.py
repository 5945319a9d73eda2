"""All analyses of training logs at once: what `coordeval dynamics` prints and the report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.common_steps import CommonSteps, common_steps
from coordeval.dynamics.comparability import Caution, comparability_warnings
from coordeval.dynamics.ending import TableRow, end_table, snapshot
from coordeval.dynamics.keys import key_info
from coordeval.dynamics.ratios import RatioAudit, audit_ratios
from coordeval.dynamics.trends import Trend, find_trends
from coordeval.dynamics.units import InPixels, PixelScale, in_pixels
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.log import TrainingLog

DYNAMICS_FORMAT = "coordeval-dynamics/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """Everything found in some training logs; `snapshots` maps a step to its table."""

    logs: tuple[TrainingLog, ...]
    end: tuple[TableRow, ...]
    steps: CommonSteps
    snapshots: dict[int, tuple[TableRow, ...]]
    ratios: tuple[RatioAudit, ...]
    trends: tuple[Trend, ...]
    warnings: tuple[Caution, ...]
    scale: PixelScale | None
    pixels: tuple[InPixels, ...]

    @property
    def names(self) -> list[str]:
        """The names of the trainings, in order."""
        return [log.name for log in self.logs]

    def to_json(self, *, curves: bool = False) -> dict[str, Any]:
        """Plain data; `curves` adds every series (for charts)."""
        out: dict[str, Any] = {
            "format": DYNAMICS_FORMAT,
            "logs": [_log_json(log) for log in self.logs],
            "end_of_training": [row.to_json(self.names) for row in self.end],
            "common_eval_steps": self.steps.to_json(),
            "snapshots": {
                str(step): [row.to_json(self.names) for row in rows]
                for step, rows in self.snapshots.items()
            },
            "ratios": [audit.to_json() for audit in self.ratios],
            "trends": [trend.to_json() for trend in self.trends],
            "warnings": [warning.to_json() for warning in self.warnings],
            "image": None if self.scale is None else self.scale.to_json(),
            "in_pixels": [entry.to_json() for entry in self.pixels],
        }
        if curves:
            out["curves"] = [
                {
                    "log": log.name,
                    "split": split,
                    "key": key,
                    "steps": list(series.steps),
                    "values": list(series.values),
                }
                for log in self.logs
                for (split, key), series in log.series.items()
            ]
        return out


def analyse(
    logs: Sequence[TrainingLog],
    *,
    scale: PixelScale | None = None,
    at: Sequence[int] = (),
    accumulation: int | None = None,
) -> Dynamics:
    """Make all analyses of some trainings.

    `at` adds tables at those evaluation steps to the default ones (the last common steps);
    ConfigError where no log was evaluated at one of them. `scale` turns bins into pixels.
    """
    steps = common_steps(logs)
    tables = {step: tuple(snapshot(logs, step)) for step in (at or _default_snapshots(logs, steps))}
    for step, rows in tables.items():
        if not rows:
            known = ", ".join(map(str, steps.everywhere[-6:])) or "none"
            raise ConfigError(f"--at {step}: no log was evaluated there (last common: {known})")
    return Dynamics(
        logs=tuple(logs),
        end=tuple(end_table(logs)),
        steps=steps,
        snapshots=tables,
        ratios=tuple(audit_ratios(logs, accumulation)),
        trends=tuple(find_trends(logs)),
        warnings=tuple(comparability_warnings(logs)),
        scale=scale,
        pixels=tuple(in_pixels(_last_bins(logs), scale)) if scale is not None else (),
    )


def _default_snapshots(logs: Sequence[TrainingLog], steps: CommonSteps) -> tuple[int, ...]:
    return steps.snapshots if len(logs) > 1 else ()


def _last_bins(logs: Sequence[TrainingLog]) -> list[tuple[str, str, float]]:
    out = []
    for log in logs:
        for key in log.keys:
            series = log.best_split(key)
            if series is not None and key_info(key).unit == "bins":
                out.append((log.name, key, series.last[1]))
    return out


def _log_json(log: TrainingLog) -> dict[str, Any]:
    train, evaluation = log.steps("train"), log.steps("eval")
    return {
        "name": log.name,
        "files": [{"path": str(file.path), "kind": file.kind} for file in log.files],
        "max_train_step": train[-1] if train else None,
        "max_eval_step": evaluation[-1] if evaluation else None,
        "eval_points": len(evaluation),
        "train_points": len(train),
        "accumulation_steps": log.accumulation,
        "notes": list(log.notes),
    }


__all__ = ["DYNAMICS_FORMAT", "Dynamics", "analyse"]
