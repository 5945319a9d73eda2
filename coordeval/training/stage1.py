"""Stage 1: one teacher-forced pass over every batch, from a configuration to checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.training.assembly import make_trainer
from coordeval.training.training_run import Resume, Trained, check_training, run_training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.training.config import TrainConfig


def train_stage1(
    config: TrainConfig,
    *,
    resume: Resume = "auto",
    notify: Callable[[str], None] = lambda _: None,
    callbacks: Sequence[Any] = (),
    handle_signals: bool = False,
) -> Trained:
    """Train as configured, or go on with what `output_dir` holds; see `run_training`."""
    _require_stage1(config)
    return run_training(
        config,
        make_trainer,
        resume=resume,
        notify=notify,
        callbacks=callbacks,
        handle_signals=handle_signals,
    )


def check_stage1(
    config: TrainConfig, *, notify: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Everything short of training, and the loss of the first batch; see `check_training`."""
    _require_stage1(config)
    return check_training(config, make_trainer, notify=notify)


def _require_stage1(config: TrainConfig) -> None:
    if config.stage != 1:
        raise ConfigError(f"stage: this is a configuration of stage {config.stage}, not 1")


__all__ = ["Resume", "Trained", "check_stage1", "train_stage1"]
