"""Are training and evaluation losses on the same scale? An audit of gradient accumulation.

Each evaluation is set beside the last training row at or before it. Where the training loss is
divided by the number of micro-batches once too often (or not at all), the ratio is a steady 1/N
(or N): seed of many silent errors, since the gradients are scaled alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.keys import key_info, report_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.log import Series, TrainingLog

SAME_SCALE = 1.25
"""A median ratio within 1/1.25 .. 1.25 is one scale: training rows are noisy, evaluations means."""
KNOWN_TOLERANCE = 0.2
"""How near the median must be to 1/N or N where N is known; 1/N is far from 1, so 20 % will do."""
GUESS_TOLERANCE = 0.1
STEADY = 2.0
"""A scaling fault multiplies every row alike; a larger spread of ratios has another cause."""
_USUAL_STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioAudit:
    """Training over evaluation for one loss of one log.

    `verdict`: `same_scale`, `accumulation` (a factor of 1/N or N, `factor` = ratio's nearest such
    number; `confirmed` where the log itself says N micro-batches), `off` (another scale), or
    `no_pairs`. `pairs` are (eval step, train step, ratio); evaluations without a training row
    before them, and those of 0, are counted in `skipped`.
    """

    log: str
    key: str
    pairs: tuple[tuple[int, int, float], ...]
    skipped: int
    median: float | None
    low: float | None
    high: float | None
    verdict: str
    factor: float | None = None
    steps: int | None = None
    confirmed: bool = False

    @property
    def flagged(self) -> bool:
        """True where somebody should look."""
        return self.verdict in {"accumulation", "off"}

    def to_json(self) -> dict[str, Any]:
        """Plain data; pairs as [eval step, train step, ratio]."""
        return {
            "log": self.log,
            "key": self.key,
            "pairs": [list(pair) for pair in self.pairs],
            "skipped": self.skipped,
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "verdict": self.verdict,
            "factor": self.factor,
            "accumulation_steps": self.steps,
            "confirmed_by_log": self.confirmed,
            "flagged": self.flagged,
        }


def audit_ratios(logs: Sequence[TrainingLog], accumulation: int | None = None) -> list[RatioAudit]:
    """Audit every loss that a log holds for training and evaluation; logs without any give none.

    Of a stage-2 training the total is left out: its evaluation has neither channel's objective.

    `accumulation` is the number of micro-batches where the logs do not say it.
    """
    out = []
    for log in logs:
        keys = {key for split, key in log.series if split == "eval"}
        for key in sorted(keys, key=report_order):
            evaluation, training = log.get("eval", key), log.get("train", key)
            if key_info(key).unit != "loss" or evaluation is None or training is None:
                continue
            if log.has_channels and key_info(key).total:
                continue
            out.append(_audit(log, training, evaluation, accumulation or log.accumulation))
    return out


def _audit(
    log: TrainingLog, training: Series, evaluation: Series, accumulation: int | None
) -> RatioAudit:
    pairs = []
    skipped = 0
    for step, value in zip(evaluation.steps, evaluation.values, strict=True):
        before = training.before(step)
        if before is None or value == 0:
            skipped += 1
            continue
        pairs.append((step, before[0], before[1] / value))
    ratios = [ratio for _, _, ratio in pairs]
    verdict, factor, steps = _judge(ratios, accumulation)
    return RatioAudit(
        log=log.name,
        key=evaluation.key,
        pairs=tuple(pairs),
        skipped=skipped,
        median=median(ratios) if ratios else None,
        low=min(ratios, default=None),
        high=max(ratios, default=None),
        verdict=verdict,
        factor=factor,
        steps=steps,
        confirmed=steps is not None and steps == accumulation,
    )


def _judge(ratios: list[float], accumulation: int | None) -> tuple[str, float | None, int | None]:
    if not ratios:
        return "no_pairs", None, None
    middle = median(ratios)
    if 1 / SAME_SCALE <= middle <= SAME_SCALE:
        return "same_scale", None, None
    known = accumulation if accumulation is not None and accumulation > 1 else None
    found = _nearest(middle, (known,), KNOWN_TOLERANCE) if known is not None else None
    if found is None and min(ratios) > 0 and max(ratios) <= STEADY * min(ratios):
        found = _nearest(middle, _USUAL_STEPS, GUESS_TOLERANCE)
    return ("off", None, None) if found is None else ("accumulation", *found)


def _nearest(middle: float, counts: Sequence[int], tolerance: float) -> tuple[float, int] | None:
    """The factor 1/N or N next to the median, and N; None where none is near enough."""
    near = [
        (abs(middle / factor - 1), factor, steps)
        for steps in counts
        for factor in (1 / steps, float(steps))
        if abs(middle / factor - 1) <= tolerance
    ]
    if not near:
        return None
    _, factor, steps = min(near)
    return factor, steps


__all__ = ["RatioAudit", "audit_ratios"]
