"""What `--dry-run` finds out: the loss of the first batch by each channel, and what learns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from coordeval.training.data.batches import to_device
from coordeval.training.loop.window import Window, count_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordeval.training.loop.channel import Channel
    from coordeval.training.loop.trainer import Stage1Trainer


def dry_run(trainer: Stage1Trainer) -> dict[str, Any]:
    """Loss and terms of the first batch in training mode, without a step, and what learns."""
    batch = next(iter(trainer.get_train_dataloader()))
    return first_loss(trainer, trainer.teacher_forced, batch) | learning(trainer, batch)


def first_loss(
    trainer: Stage1Trainer, channel: Channel, batch: Mapping[str, Any]
) -> dict[str, float | None]:
    """`loss` and `loss/<term>` of one batch by a channel: those of a step of that batch alone."""
    window = Window(count_batch(channel, batch), channel)
    trainer.model.train()
    with torch.no_grad():
        computed = channel(trainer.model, to_device(batch, trainer.args.device), window.divisors)
    window.add(batch["sample_ids"], computed)
    finished = window.finish(trainer.accelerator)
    return {"loss": finished.loss} | finished.means(window.denominators) | finished.values


def learning(trainer: Stage1Trainer, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Where the training runs, which parameters learn, and for how many steps."""
    args = trainer.args
    windows = -(-len(trainer.get_train_dataloader()) // args.gradient_accumulation_steps)
    steps, model = args.max_steps, trainer.model
    return {
        "sample_ids": batch["sample_ids"],
        "device": str(args.device),
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_learning": sum(row.rows_KH.numel() for row in trainer.rows)
        if trainer.rows_only
        else sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps_per_epoch": windows,
        "steps": steps if steps > 0 else math.ceil(windows * args.num_train_epochs),
    }


__all__ = ["dry_run", "first_loss", "learning"]
