"""The trainer's own choice of a best checkpoint (`metric_for_best_model`) by a rollout metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.best import metric_direction
from coordeval.training.rollout_eval.runs import PREFIX

if TYPE_CHECKING:
    from coordeval.training.rollout_eval.runs import Evaluated


def offered_metric(args: Any) -> str | None:
    """The key of ours that the trainer chooses by; None where it chooses by anything else."""
    name = getattr(args, "metric_for_best_model", None)
    if not isinstance(name, str):
        return None
    full = name if name.startswith("eval_") else f"eval_{name}"
    return full.removeprefix(PREFIX) if full.startswith(PREFIX) else None


def check_offered(args: Any, *, at_once: bool) -> None:
    """Refuse at the start a choice that could not be made, or would take the worst for the best.

    `at_once`: evaluations are done when they return, as another process's are not.
    """
    key = offered_metric(args)
    if key is None:
        return
    if not at_once:
        raise ConfigError(
            f"metric_for_best_model {PREFIX}{key} needs the value at once: choose engine hf or "
            "vllm, or best_metric of the rollout evaluation instead"
        )
    higher = metric_direction(key) == "higher"
    if bool(args.greater_is_better) != higher:
        raise ConfigError(
            f"metric_for_best_model {PREFIX}{key}: set greater_is_better: {str(higher).lower()}"
        )


def offered_value(key: str, evaluated: Evaluated | None, *, higher: bool) -> dict[str, float]:
    """The entry for the trainer's evaluation metrics; no value is one that never wins."""
    value = None if evaluated is None else evaluated.metrics.get(key)
    if value is None:
        value = float("-inf") if higher else float("inf")
    return {f"{PREFIX}{key}": value}


__all__ = ["check_offered", "offered_metric", "offered_value"]
