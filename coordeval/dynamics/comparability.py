"""Which numbers of different trainings must not be set side by side, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.keys import catalogue_info, key_info, report_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.log import TrainingLog

_TERMS = ("ce", "soft_ce", "w1", "gate", "text_gate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """One reason for caution. `kind` is stable; `keys` and `logs` say what it is about."""

    kind: str
    text: str
    keys: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "text": self.text,
            "keys": list(self.keys),
            "logs": list(self.logs),
        }


def objective_of(log: TrainingLog) -> tuple[str, ...]:
    """The loss terms that a log shows to be trained, `()` where it shows only a total.

    `base_ce`, the coordinate terms of `coord_softce_w1/*` that are not 0 throughout, and other
    `loss/*` terms. Diagnostics (`coord_diag/*`) alone are no term: they are logged without loss.
    """
    terms = []
    if log.best_split("base_ce/loss") is not None:
        terms.append("base_ce")
    for term in _TERMS:
        series = log.best_split(f"coord_diag/{term}")
        if series is not None and "coord_softce_w1/" in series.origin and any(series.values):
            terms.append(f"coord {term}")
    weighted = log.best_split("coord_diag/loss")
    if len(terms) < 2 and weighted is not None and "coord_softce_w1/" in weighted.origin:
        terms.append("coord terms")
    enabled = log.best_split("coord_diag/enabled")
    if enabled is not None and not any(enabled.values):
        terms = [term for term in terms if not term.startswith("coord ")]
    terms += sorted({key for _, key in log.series if key.startswith("loss/")})
    return tuple(terms)


def has_coord_mask(log: TrainingLog) -> bool:
    """Whether the log shows that text accuracy leaves coordinate tokens out.

    It does where the trainer tells token types apart: by coordinate losses that are trained, by a
    text loss over non-coordinate tokens, or by accuracies per token type.
    """
    if any(origin.find("coord_softce_w1/") >= 0 for origin in log.origins):
        return True
    marks = ("base_ce/loss", "base_ce/noncoord_tokens", "coord_token_frac", "desc_token_frac")
    return any(log.best_split(mark) is not None for mark in marks)


def comparability_warnings(logs: Sequence[TrainingLog]) -> list[Caution]:
    """All warnings, the weightiest first; one log alone gets those that hold for it alone."""
    out = [
        *_loss_totals(logs),
        *_text_accuracy(logs),
        *_different_names(logs),
        *_different_ends(logs),
        *_teacher_forced(logs),
    ]
    return [warning for warning in out if warning is not None]


def _loss_totals(logs: Sequence[TrainingLog]) -> list[Caution]:
    keys = sorted({key for log in logs for _, key in log.series}, key=report_order)
    totals = [key for key in keys if key_info(key).total]
    shared = [key for key in totals if sum(log.best_split(key) is not None for log in logs) > 1]
    if len(logs) < 2 or not shared:
        return []
    objectives = {log.name: objective_of(log) for log in logs}
    names = tuple(objectives)
    listed = "; ".join(
        f"{name}: {' + '.join(terms) if terms else 'only a total'}"
        for name, terms in objectives.items()
    )
    if len(set(objectives.values())) == 1:
        text = (
            f"loss totals ({', '.join(shared)}) compare only between equal objectives with equal "
            f"weights, which these logs do not show ({listed})"
        )
        return [Caution(kind="loss_totals_unverified", text=text, keys=tuple(shared), logs=names)]
    text = (
        f"loss totals ({', '.join(shared)}) are not comparable: the objectives differ ({listed}); "
        "compare coord_diag/* and accuracies"
    )
    return [Caution(kind="loss_totals", text=text, keys=tuple(shared), logs=names)]


def _text_accuracy(logs: Sequence[TrainingLog]) -> list[Caution]:
    holding = [log for log in logs if log.best_split("text_token_acc") is not None]
    without = tuple(log.name for log in holding if not has_coord_mask(log))
    if not without:
        return []
    text = (
        f"text_token_acc of {', '.join(without)} is not comparable: nothing in the log shows a "
        "coordinate mask, so it may count coordinate tokens and look low"
    )
    return [
        Caution(
            kind="text_token_acc_without_mask", text=text, keys=("text_token_acc",), logs=without
        )
    ]


def _different_names(logs: Sequence[TrainingLog]) -> list[Caution]:
    """Keys that come from a weighted loss term in one log and from a diagnostic in another."""
    mixed: list[str] = []
    weighted: set[str] = set()
    for key in sorted({key for log in logs for _, key in log.series}, key=report_order):
        if key_info(key).unit == "loss":
            continue
        found = [(log.name, series.origin) for log in logs if (series := log.best_split(key))]
        groups = {"coord_softce_w1/" in origin for _, origin in found}
        if len(groups) > 1 and key.startswith("coord_diag/"):
            mixed.append(key)
            weighted |= {name for name, origin in found if "coord_softce_w1/" in origin}
    if not mixed:
        return []
    text = (
        f"{', '.join(mixed)}: from coord_softce_w1/* in {', '.join(sorted(weighted))} (loss terms, "
        "which some trainers log times their weight), from coord_diag/* elsewhere"
    )
    return [
        Caution(
            kind="different_sources", text=text, keys=tuple(mixed), logs=tuple(sorted(weighted))
        )
    ]


def _different_ends(logs: Sequence[TrainingLog]) -> list[Caution]:
    ends = {log.name: steps[-1] for log in logs if (steps := log.steps("eval"))}
    if len(set(ends.values())) < 2:
        return []
    listed = ", ".join(f"{name} {step}" for name, step in ends.items())
    text = f"the trainings end at different steps ({listed}): see the common steps as well"
    return [Caution(kind="different_ends", text=text, logs=tuple(ends))]


def _teacher_forced(logs: Sequence[TrainingLog]) -> list[Caution]:
    decoded = [
        log.name
        for log in logs
        if any(catalogue_info(key) is not None and split == "eval" for split, key in log.series)
    ]
    forced = tuple(log.name for log in logs if log.name not in decoded)
    if not forced:
        return []
    text = (
        f"no evaluation by free decoding in {', '.join(forced)}: teacher-forced numbers do not "
        "predict how a model decodes (coordeval rollout CHECKPOINT does)"
    )
    return [Caution(kind="teacher_forced_only", text=text, logs=forced)]


__all__ = ["Caution", "comparability_warnings", "has_coord_mask", "objective_of"]
