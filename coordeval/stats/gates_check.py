"""Gates held against a run: one object that says what passed, the verdict and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from coordeval.errors import (
    EXIT_INCOMPLETE,
    EXIT_OK,
    EXIT_PROBLEMS,
    ConfigError,
    RunIncomplete,
)
from coordeval.stats.baseline import refuse_incomparable
from coordeval.stats.gates import SLACK, Change, Gate, Limit, bad_direction
from coordeval.stats.gates_intervals import Intervals
from coordeval.stats.gates_keys import absent_value, expand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.errors import CoordevalError
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.baseline import Baseline
    from coordeval.stats.gates import Direction

CHECK_FORMAT = "coordeval-check/1"
Status = Literal["fail", "pass", "skipped"]
Verdict = Literal["pass", "fail", "nothing evaluated", "fault"]
_ORDER: dict[Status, int] = {"fail": 0, "pass": 1, "skipped": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One gate on one metric.

    `change` is value - baseline. `allowed` is the bound that was applied: of the value for a
    limit, of the change otherwise. `interval` bounds what was judged (95 %), None where it was
    judged exactly.
    """

    gate: str
    key: str
    status: Status
    reason: str
    baseline: float | None
    value: float | None
    allowed: float | None
    interval: tuple[float, float] | None = None

    @property
    def change(self) -> float | None:
        """Value - baseline; None where either is missing."""
        if self.value is None or self.baseline is None:
            return None
        return self.value - self.baseline

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "gate": self.gate,
            "key": self.key,
            "status": self.status,
            "reason": self.reason,
            "baseline": self.baseline,
            "value": self.value,
            "change": self.change,
            "allowed": self.allowed,
            "interval": self.interval,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """All outcomes, failing ones first; or the fault that kept the gates from being judged."""

    run: str
    baseline: str | None
    outcomes: tuple[Outcome, ...] = ()
    fault: CoordevalError | None = None
    notes: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[Outcome, ...]:
        """Gates that do not hold."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "fail")

    @property
    def verdict(self) -> Verdict:
        """A fault, else fail, else pass; `nothing evaluated` where no gate could be judged."""
        if self.fault is not None:
            return "fault"
        if self.failing:
            return "fail"
        if any(outcome.status == "pass" for outcome in self.outcomes):
            return "pass"
        return "nothing evaluated"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 nothing evaluated, else that of the fault (2, 3 or 4)."""
        if self.fault is not None:
            return self.fault.exit_code
        codes = {"pass": EXIT_OK, "fail": EXIT_PROBLEMS, "nothing evaluated": EXIT_INCOMPLETE}
        return codes[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "format": CHECK_FORMAT,
            "run": self.run,
            "baseline": self.baseline,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "fault": None if self.fault is None else str(self.fault),
            "notes": list(self.notes),
            "failing": len(self.failing),
            "gates": [outcome.to_json() for outcome in self.outcomes],
        }


def check_run(
    result: ScoreResult,
    gates: Sequence[Gate],
    baseline: Baseline | None,
    *,
    run: str,
    baseline_path: str | None = None,
    with_intervals: bool = False,
) -> CheckResult:
    """Hold a scored run against gates and a baseline.

    Raises RunIncomplete for a run that is empty or not finished, NotComparable where the baseline
    stands on other ground truth or another protocol, and what `check_gates` raises.
    """
    refuse_unfinished(result, run)
    if baseline is not None:
        refuse_incomparable(baseline, result, where=baseline_path or "baseline")
    wanted = with_intervals and bool(gates)
    outcomes = check_gates(
        gates,
        result.metrics,
        None if baseline is None else baseline.metrics,
        intervals=Intervals(result, baseline) if wanted else None,
    )
    notes = [] if gates else ["no gates: give --gate, --gates FILE, or [gates] in coordeval.toml"]
    return CheckResult(
        run=run,
        baseline=None if baseline is None else baseline_path,
        outcomes=outcomes,
        notes=tuple(notes),
    )


def refuse_unfinished(result: ScoreResult, run: str) -> None:
    """Raise RunIncomplete for a run that is empty or not finished: it proves nothing."""
    if result.status == "empty":
        raise RunIncomplete(f"{run}: nothing to evaluate: it holds no rollout without error")
    if result.status != "complete":
        raise RunIncomplete(f"{run}: the rollout is not finished; resume it and check again")


def check_gates(
    gates: Sequence[Gate],
    values: Mapping[str, float | None],
    baseline: Mapping[str, float | None] | None,
    *,
    intervals: Intervals | None = None,
) -> tuple[Outcome, ...]:
    """Judge every gate, failing ones first, else in the order given.

    ConfigError for unknown keys, for gates on changes without a baseline, and for relative gates
    from 0 without an absolute tolerance. With `intervals` a gate fails only where the whole
    interval lies beyond what is allowed.
    """
    present = {*values, *(baseline or {})}
    outcomes: list[Outcome] = []
    for gate in gates:
        if gate.needs_baseline and baseline is None:
            raise ConfigError(f"gate {gate.text!r} bounds a change: give --baseline FILE")
        keys = expand(gate.key, present)
        outcomes += [_judge(gate, key, values, baseline, intervals) for key in keys]
    return tuple(sorted(outcomes, key=lambda outcome: _ORDER[outcome.status]))


def _judge(
    gate: Gate,
    key: str,
    values: Mapping[str, float | None],
    baseline: Mapping[str, float | None] | None,
    intervals: Intervals | None,
) -> Outcome:
    blank = Outcome(
        gate=gate.text,
        key=key,
        status="skipped",
        reason="",
        baseline=_value(baseline, key),
        value=_value(values, key),
        allowed=None,
    )
    if isinstance(gate.condition, Limit):
        return _judge_limit(blank, gate.condition, intervals)
    return _judge_change(blank, gate.condition, gate.text, intervals)


def _value(values: Mapping[str, float | None] | None, key: str) -> float | None:
    return None if values is None else values.get(key, absent_value(key))


def _judge_limit(blank: Outcome, limit: Limit, intervals: Intervals | None) -> Outcome:
    outcome = replace(blank, allowed=limit.value)
    value = outcome.value
    if value is None:
        return replace(outcome, status="fail", reason="no value (null)")
    interval = intervals.of_value(blank.key) if intervals is not None else None
    outcome = replace(outcome, interval=interval)
    # With an interval the limit fails only where no value in it would hold.
    holds = any(limit.holds(each) for each in (value, *(interval or ())))
    reason = "" if holds else f"not {limit.operator} {limit.value:g}"
    return replace(outcome, status="pass" if holds else "fail", reason=reason)


def _judge_change(
    blank: Outcome, change: Change, text: str, intervals: Intervals | None
) -> Outcome:
    direction = bad_direction(blank.key, change, text)
    if blank.baseline is None and blank.value is None:
        return replace(blank, reason="no value (null) on either side")
    if blank.baseline is None or blank.value is None:
        side = "in the baseline" if blank.baseline is None else "now"
        return replace(blank, status="fail", reason=f"no value (null) {side}")
    try:
        allowed = change.allowed(blank.baseline)
    except ConfigError as error:
        raise ConfigError(f"gate {text!r} on {blank.key}: {error}") from None
    interval = intervals.of_change(blank.key) if intervals is not None else None
    moved = blank.value - blank.baseline
    low, high = (moved, moved) if interval is None else interval
    reason = _excess(direction, low, high, allowed)
    return replace(
        blank,
        status="fail" if reason else "pass",
        reason=reason,
        allowed=allowed,
        interval=interval,
    )


def _excess(direction: Direction, low: float, high: float, allowed: float) -> str:
    """What is wrong with a change known to lie between low and high; empty where nothing is."""
    if direction in ("fall", "both") and high < -allowed - SLACK:
        return "fell too far"
    if direction in ("rise", "both") and low > allowed + SLACK:
        return "rose too far"
    return ""


__all__ = [
    "CHECK_FORMAT",
    "CheckResult",
    "Outcome",
    "Status",
    "Verdict",
    "check_gates",
    "check_run",
    "refuse_unfinished",
]
