"""Channel B of a training, from the parts that every training is assembled of."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.training.assembly import ids_or_stand_ins, is_sharded
from coordeval.training.rollout_eval.ranks import all_ranks
from coordeval.training.stage2.channel_b import ChannelB, channel_b_objective
from coordeval.training.stage2.rollout_dumps import RolloutDumps
from coordeval.training.stage2.rollout_sums import Reading
from coordeval.training.stage2.rollouts import open_rollouts
from coordeval.training.stage2.schedule import count_b_steps
from coordeval.training.stage2.target_context import TargetContext
from coordeval.training.stage2.target_maker import TargetMaker
from coordeval.training.stage2.telemetry import RolloutTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.engines.base import DecodeSettings
    from coordeval.records import Sample
    from coordeval.training.assembly import Parts
    from coordeval.training.data.dataset import TrainDataset
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.stage2.config import Stage2Config


def open_channel_b(parts: Parts, trainer: Any, notify: Callable[[str], None]) -> ChannelB:
    """The channel that `stage2.channel_b` asks for, checked before the first step.

    `trainer` holds the model in its place, and the accelerator. Called on every process. Raises
    ConfigError, CheckpointError and MissingExtraError for what cannot work.
    """
    config, channel, train = parts.config, parts.config.stage2.channel_b, parts.train
    context = TargetContext.for_reader(
        parts.reader,
        dialect=train.dialect,
        frame=train.frame,
        config=channel,
        order=config.data.order,
    )
    objective = channel_b_objective(
        config.stage2,
        ids_or_stand_ins(parts.coord_ids, parts.reader),
        end_ids=sorted(parts.reader.end_ids),
    )
    ranks = all_ranks()
    rollouts = open_rollouts(
        channel.rollout,
        config.data,
        train,
        parts.reader,
        trainer.model,
        seed=config.seed,
        folder=parts.folder,
        ranks=ranks,
        sharded=_is_cut_up(parts, trainer),
        trainer=trainer,
        notify=notify,
    )
    reading = _reading(parts, rollouts.decode)
    coord_ids_K = None
    if parts.coord_ids is not None:
        coord_ids_K = torch.tensor(parts.coord_ids, device=parts.args.device)
    return ChannelB(
        trainer.model,
        objective,
        autocast=trainer.accelerator.autocast,
        coord_ids_K=coord_ids_K,
        rollouts=rollouts,
        targets=TargetMaker(context, order_seed=lambda: (train.seed << 32) + train.epoch),
        samples=as_annotated(train),
        collator=train.collator(),
        image_token_id=parts.reader.image_token_id,
        packed=config.data.packing,
        max_length=config.data.max_length,
        ranks=ranks,
        live=lambda: trainer.model,
        telemetry=RolloutTelemetry(reading, views=channel.rollout.views),
        dumps=_dumps(parts, reading, rollouts.decode, ranks, notify),
        notify=notify,
    )


def as_annotated(train: TrainDataset) -> dict[str, Sample]:
    """The samples that are trained on by id, with all that is annotated.

    Crowd regions are not taught, but what is found on one is no false positive.
    """
    trained = {sample.id for sample in train.samples}
    return {sample.id: sample for sample in train.dataset if sample.id in trained}


def _is_cut_up(parts: Parts, trainer: Any) -> bool:
    """Whether no process will have all weights; DeepSpeed cuts them up at its third stage alone."""
    state = getattr(trainer.accelerator, "state", None)
    plugin = getattr(state, "deepspeed_plugin", None)
    return is_sharded(parts.args) if plugin is None else plugin.zero_stage == 3


def _reading(parts: Parts, decode: DecodeSettings) -> Reading:
    train = parts.train
    ids = parts.coord_ids
    return Reading(
        dialect=train.dialect,
        frame=train.frame,
        categories=train.dataset.categories,
        vocabulary=None if ids is None else np.array(ids, dtype=np.int64),
        guarded=decode.guard.mode != "off",
    )


def _dumps(
    parts: Parts,
    reading: Reading,
    decode: DecodeSettings,
    ranks: Ranks,
    notify: Callable[[str], None],
) -> RolloutDumps | None:
    wanted = parts.config.stage2.channel_b.rollout
    if not wanted.dump_every or not wanted.dump_samples or ranks.rank > 0:
        return None
    return RolloutDumps(
        parts.folder,
        reading,
        decode,
        every=wanted.dump_every,
        number_of=partial(_b_steps_before, parts.config.stage2),
        count=wanted.dump_samples,
        notify=notify,
    )


def _b_steps_before(config: Stage2Config, step: int) -> int:
    return count_b_steps(step, config.b_ratio, config.curriculum)


__all__ = ["as_annotated", "open_channel_b"]
