"""The tables of the ablation: teacher-forced values beside free decoding, and their agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from coordeval.dynamics.discover import read_logs
from coordeval.dynamics.keys import key_info
from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROLLOUT = (
    "samples/conforming_rate",
    "parse/drop_rate",
    "f1/0.50/f1",
    "f1/mean/f1",
    "f1_loc/0.50/f1",
    "coco/AP",
)
FORCED = (
    "coord_diag/expected_bin_mae",
    "coord_diag/expected_bin_abs_err_p90",
    "coord_diag/w1_to_delta",
    "coord_diag/p_gt_mean",
    "coord_diag/acc_top5",
    "coord_diag/ce",
    "coord_diag/soft_ce",
    "coord_diag/w1",
    "coord_diag/gate",
    "coord_diag/coord_vocab_mass",
    "coord_diag/text_coord_vocab_mass",
    "token_acc",
    "coord_token_acc",
    "desc_token_acc",
)
TARGETS = {"f1/0.50/f1": "F1@.50", "f1/mean/f1": "F1 mean", "coco/AP": "AP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """The last evaluation of one training: teacher-forced and rollout values by key."""

    objective: str
    seed: int
    step: int
    values: dict[str, float]


def read_cell(objective: str, seed: int, folder: Path) -> CellResult:
    """Read a run folder's log; DataError where its last evaluation lacks a value."""
    (log,) = read_logs([folder / "train_log.jsonl"])
    steps = log.steps("eval")
    if not steps:
        raise DataError(f"{folder}: its log holds no evaluation")
    values = {}
    for key in (*FORCED, *ROLLOUT):
        series = log.get("eval", key)
        value = None if series is None else series.at(steps[-1])
        if value is not None:
            values[key] = value
    missing = [key for key in ("f1/0.50/f1", "coord_diag/p_gt_mean") if key not in values]
    if missing:
        raise DataError(f"{folder}: no {', '.join(missing)} at its last step {steps[-1]}")
    return CellResult(objective=objective, seed=seed, step=steps[-1], values=values)


def markdown(results: Sequence[CellResult]) -> str:
    """All tables as Markdown; cells must be of one budget."""
    steps = sorted({result.step for result in results})
    shown = ", ".join(map(str, steps))
    lead = f"{len(results)} cells at step {shown}; mean [min, max] over seeds."
    return "\n\n".join([lead, _values(results), _agreement(results)])


def _values(results: Sequence[CellResult]) -> str:
    objectives = list(dict.fromkeys(result.objective for result in results))
    lines = [
        "| | " + " | ".join(objectives) + " |",
        "|---|" + "---:|" * len(objectives),
    ]
    for title, keys in (("teacher-forced", FORCED), ("free decoding", ROLLOUT)):
        lines.append(f"| *{title}* |" + " |" * len(objectives))
        for key in keys:
            row = [
                _spread([r.values[key] for r in results if r.objective == name and key in r.values])
                for name in objectives
            ]
            lines.append(f"| `{key}` {_arrow(key)} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _arrow(key: str) -> str:
    return {"higher": "↑", "lower": "↓", "none": ""}[key_info(key).better]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return _short(values[0])
    return f"{_short(float(np.mean(values)))} [{_short(min(values))}, {_short(max(values))}]"


def _short(value: float) -> str:
    size = abs(value)
    if size >= 10:
        return f"{value:.0f}" if size >= 100 else f"{value:.1f}"
    return f"{value:.2g}" if 0 < size < 0.01 else f"{value:.3f}"


def _agreement(results: Sequence[CellResult]) -> str:
    """How far each teacher-forced value puts the cells into the order of free decoding."""
    best = max(result.values["f1/0.50/f1"] for result in results)
    names = [f"ρ with {name}" for name in TARGETS.values()]
    header = ["teacher-forced value", *names, "ρ within objectives", "its choice", "F1@.50 lost"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * 4 + "---|---:|"]
    for key in FORCED:
        known = [result for result in results if key in result.values]
        if len(known) < 3:
            continue
        goodness = _goodness(key, known)
        found = {target: [r.values[target] for r in known] for target in TARGETS}
        rhos = [_rank_correlation(goodness, values) for values in found.values()]
        inner = _rank_correlation(_within(goodness, known), _within(found["f1/0.50/f1"], known))
        choice = known[int(np.argmax(goodness))]
        cells = [
            f"`{key}`",
            *map(_rho, [*rhos, inner]),
            f"{choice.objective}, seed {choice.seed}",
            _short(best - choice.values["f1/0.50/f1"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _goodness(key: str, results: Sequence[CellResult]) -> list[float]:
    sign = -1.0 if key_info(key).better == "lower" else 1.0
    return [sign * result.values[key] for result in results]


def _within(values: Sequence[float], results: Sequence[CellResult]) -> list[float]:
    """Deviations from the mean of each objective: what seeds alone make of a value."""
    by_objective: dict[str, list[float]] = {}
    for value, result in zip(values, results, strict=True):
        by_objective.setdefault(result.objective, []).append(value)
    means = {name: float(np.mean(own)) for name, own in by_objective.items()}
    # Rounded: equal deviations are ties, whatever the means left behind the last digits.
    return [round(v - means[r.objective], 12) for v, r in zip(values, results, strict=True)]


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's; None where either side is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def _rho(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


__all__ = ["CellResult", "markdown", "read_cell"]
