"""A training's progress on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from transformers import TrainerCallback

from coordeval.reports.printable import printable

LINE_EVERY_S = 10.0


class ProgressCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Shows step, loss and evaluation results; on the main process only."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        self._bar: Any = None
        self._task: Any = None
        self._last_line_at = 0.0
        self._facts = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the bar up."""
        del args, control, kwargs
        if not state.is_world_process_zero or not self._console.is_terminal:
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(
            "train", total=state.max_steps, completed=state.global_step, facts=""
        )
        self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show a step or an evaluation."""
        del args, control, kwargs
        if not state.is_world_process_zero or not logs:
            return
        is_eval = "eval_loss" in logs
        if is_eval:
            self._print(f"step {state.global_step}: evaluation loss {logs['eval_loss']:.4g}")
        if "grad_norm" not in logs:
            return
        self._facts = f"loss {logs['loss']:.4g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, facts=self._facts)
            return
        now = time.monotonic()
        if now - self._last_line_at >= LINE_EVERY_S or state.global_step == state.max_steps:
            self._last_line_at = now
            self._print(f"step {state.global_step} of {state.max_steps}, {self._facts}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar down."""
        del args, state, control, kwargs
        self.close()

    def close(self) -> None:
        """Take the bar down, also where the training ended in an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: str) -> None:
        self._console.print(
            printable(text), highlight=False, markup=False, emoji=False, soft_wrap=True
        )


__all__ = ["ProgressCallback"]
