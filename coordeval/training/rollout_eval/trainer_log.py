"""Logging from a callback: the trainer that calls it, and a row in all that it logs to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType


def calling_trainer(callback: Any) -> Any:
    """The `transformers.Trainer` that is calling this callback now; None outside of any.

    A callback is handed no trainer; but it stands on the stack, one frame above the handler that
    holds the callback.
    """
    from transformers import Trainer

    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer):
            handler = getattr(owner, "callback_handler", None)
            if any(item is callback for item in getattr(handler, "callbacks", ())):
                return owner
        frame = frame.f_back
    return None


def log_row(
    trainer: Any,
    state: Any,
    control: Any,
    values: Mapping[str, float | int],
    *,
    step: int,
    epoch: float | None,
) -> None:
    """Log values under a step: history, TensorBoard and whatever else the trainer reports to.

    Other libraries' trainers empty their own running means when their `log` is called, so theirs
    is passed by. The step may be an earlier one; whether the trainer itself logs at this step is
    left as it was. Without a trainer the row goes into the history alone.
    """
    if trainer is None:
        row = dict(values) if epoch is None else {**values, "epoch": epoch}
        state.log_history.append({**row, "step": step})
        return
    kept_step, kept_epoch, kept_log = state.global_step, state.epoch, control.should_log
    state.global_step, state.epoch = step, epoch
    try:
        _log_of(trainer)(dict(values))
    finally:
        state.global_step, state.epoch = kept_step, kept_epoch
        control.should_log = kept_log


def _log_of(trainer: Any) -> Any:
    """Our own trainer's `log`, which writes train_log.jsonl; for all others the library's."""
    from transformers import Trainer

    ours = any(
        kind.__module__ == "coordeval.training.loop.trainer" for kind in type(trainer).__mro__
    )
    return trainer.log if ours else Trainer.log.__get__(trainer)


__all__ = ["calling_trainer", "log_row"]
