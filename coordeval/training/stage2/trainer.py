"""`Stage2Trainer`: stage 1's trainer with the channel of every optimizer step from the schedule.

Everything but the channels is stage 1's: normalisation over the window and all processes, log,
evaluation (the teacher-forced objective of `plain_objective`), resume, what is not finite.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from coordeval.training.loop.channel import Channel
from coordeval.training.loop.dry_run import first_loss, learning
from coordeval.training.loop.trainer import Stage1Trainer
from coordeval.training.stage2.schedule import channels_used, is_b_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.training.loop.window import Window
    from coordeval.training.stage2.config import Stage2Config

A, B = "A", "B"


class RolloutChannel(Channel, Protocol):
    """A channel that makes its own batches of a window's, from rollouts of the present weights."""

    def prepare(
        self, batches: Sequence[Mapping[str, Any]], step: int, *, dry: bool = False
    ) -> list[dict[str, Any]]:
        """As many batches, of the same samples' rollouts; called on every process.

        `step` (from 0) seeds what is random; the model and all random states are left as they were.
        `dry`: nothing is written.
        """
        ...

    def telemetry(self) -> Mapping[str, float | None]:
        """`rollout/*` of the window prepared last, over all processes; asked on every process."""
        ...

    def close(self) -> None:
        """Stop engines that were started."""
        ...


class Stage2Trainer(Stage1Trainer):
    """Runs channel A or B in each optimizer step; `objective` (of `rest`) is for evaluation alone.

    `make_a` and `make_b` make the channels of this trainer, once its model is in place; a channel
    that the schedule never asks for is not made.
    """

    def __init__(
        self,
        *,
        stage2: Stage2Config,
        make_a: Callable[[Stage1Trainer], Channel],
        make_b: Callable[[Stage1Trainer], RolloutChannel],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self._stage2 = stage2
        has_a, has_b = channels_used(stage2)
        self.channel_a = make_a(self) if has_a else None
        self.channel_b = make_b(self) if has_b else None

    def is_b(self, step: int) -> bool:
        """Whether optimizer step `step` (from 0) is channel B's."""
        return is_b_step(step, self._stage2.b_ratio, self._stage2.curriculum)

    def channel_of(self, step: int) -> tuple[Channel, str | None]:
        """The schedule's channel, and its name."""
        label, channel = (B, self.channel_b) if self.is_b(step) else (A, self.channel_a)
        assert channel is not None
        return channel, label

    def prepared(self, batches: list[Any], window: Window) -> list[Any]:
        """In a B step the batches of the samples' rollouts, and what is logged of these."""
        if window.label != B:
            return batches
        step = self.state.global_step
        made, facts = self._rolled_out(batches, step)
        if len(made) != len(batches):
            raise RuntimeError(f"step {step}: {len(made)} batches were made of {len(batches)}")
        window.facts |= facts
        return made

    def _rolled_out(
        self, batches: list[Any], step: int, *, dry: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        channel = self.channel_b
        assert channel is not None
        started = time.monotonic()
        made = channel.prepare(batches, step, dry=dry)
        seconds = time.monotonic() - started
        return made, {**channel.telemetry(), "rollout/seconds": seconds}

    def dry_run(self) -> dict[str, Any]:
        """The first batch by each channel that has a step, without one; and what learns."""
        batch = next(iter(self.get_train_dataloader()))
        out: dict[str, Any] = {}
        if self.channel_a is not None:
            out["channel_A"] = first_loss(self, self.channel_a, batch)
        if self.channel_b is not None:
            (made,), facts = self._rolled_out([batch], 0, dry=True)
            out["channel_B"] = first_loss(self, self.channel_b, made) | facts
        return out | learning(self, batch)

    def close(self) -> None:
        """Stop the engines that made rollouts."""
        if self.channel_b is not None:
            self.channel_b.close()


__all__ = ["RolloutChannel", "Stage2Trainer"]
