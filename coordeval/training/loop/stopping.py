"""Ctrl-C and SIGTERM in a training: finish the step, save a checkpoint, and leave.

The request is agreed on by all processes with the counts of the next window, since a checkpoint is
written together. A second signal leaves at once.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from coordeval.engines.interrupts import Interrupted
from coordeval.errors import EXIT_INTERRUPTED, EXIT_TERMINATED
from coordeval.training.loop.train_log import read_log
from coordeval.training.loop.window import reduced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from coordeval.training.loop.trainer import Stage1Trainer


class StopRequest:
    """`wanted` by this process since a signal came, `agreed` by all at the last window.

    `over_at` is the last step, where a training that had come to it was started again.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.agreed = False
        self.saved_at: int | None = None
        self.over_at: int | None = None

    @property
    def wanted(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """What the command ends with; other processes' signals count as an interruption."""
        return EXIT_TERMINATED if self.signal_number == signal.SIGTERM else EXIT_INTERRUPTED

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """Ask for a stop; the second time, stop here and now."""
        if self.wanted:
            raise Interrupted(number)
        self.signal_number = number


class StopCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Ends the training with a checkpoint after the step in which all agreed to stop."""

    def __init__(self, request: StopRequest, *, alone: bool) -> None:
        """`alone`: one process, which need not wait for others to agree."""
        self._request, self._alone = request, alone

    def _stops(self) -> bool:
        return self._request.agreed or (self._alone and self._request.wanted)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask for the checkpoint; an evaluation that is due now is left to the resumed run.

        `OwedEvaluation` makes it up.
        """
        del args, kwargs
        if self._stops():
            self.stop_here(state, control)
        return control

    def stop_here(self, state: Any, control: Any) -> None:
        """Stop at the present step, whose evaluation a resumed run makes up; on all processes."""
        self._request.agreed = True
        self._request.saved_at = state.global_step
        control.should_save = control.should_training_stop = True
        control.should_evaluate = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Leave out what is due at the end of an epoch: this is not one."""
        del args, kwargs
        if state.global_step in (self._request.saved_at, self._request.over_at):
            control.should_evaluate = control.should_save = False
        return control


class OwedEvaluation(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Makes up, right after a resume, for an evaluation that an interruption left out."""

    def __init__(self, trainer: Stage1Trainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate where the step resumed from was to be evaluated and the log lacks it."""
        del control, kwargs
        if state.global_step == 0 or not evaluation_due(args, state):
            return
        owed = 0.0
        if args.process_index == 0:
            step = state.global_step
            done = (
                row.get("step") == step and "eval_loss" in row for row in read_log(self._folder)
            )
            owed = 0.0 if any(done) else 1.0
        if reduced([owed], self._trainer.accelerator)[0]:
            self._trainer.evaluate()


def evaluation_due(args: Any, state: Any) -> bool:
    """Whether the library evaluates after the present step."""
    step, strategy = (
        state.global_step,
        str(getattr(args.eval_strategy, "value", args.eval_strategy)),
    )
    if strategy == "steps":
        return bool(step % state.eval_steps == 0 or step == state.max_steps)
    # The library's last epoch ends with the last step, wherever in the data that is.
    ends = abs(state.epoch - round(state.epoch)) < 1e-9 or step == state.max_steps
    return strategy == "epoch" and ends


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Let SIGINT and SIGTERM reach the request in the block; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, request.on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


__all__ = ["OwedEvaluation", "StopCallback", "StopRequest", "evaluation_due", "stop_on_signals"]
