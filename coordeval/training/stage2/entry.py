"""Stage 2: self-context iterations and real rollouts, from a configuration to checkpoints."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.training.assembly import ids_or_stand_ins, make_trainer
from coordeval.training.stage2.trainer import Stage2Trainer
from coordeval.training.training_run import check_training, run_training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.training.assembly import Parts
    from coordeval.training.config import TrainConfig
    from coordeval.training.loop.channel import Channel
    from coordeval.training.loop.stopping import StopRequest
    from coordeval.training.loop.trainer import Stage1Trainer
    from coordeval.training.stage2.trainer import RolloutChannel
    from coordeval.training.training_run import Resume, Trained


def train_stage2(
    config: TrainConfig,
    *,
    resume: Resume = "auto",
    notify: Callable[[str], None] = lambda _: None,
    callbacks: Sequence[Any] = (),
    handle_signals: bool = False,
) -> Trained:
    """Train as configured, or go on with what `output_dir` holds; see `run_training`.

    `model` is mostly what stage 1 left: `runs/stage1/best`, or one of its checkpoints.
    """
    _require_stage2(config)
    return run_training(
        config,
        make_stage2_trainer,
        resume=resume,
        notify=notify,
        callbacks=callbacks,
        handle_signals=handle_signals,
    )


def check_stage2(
    config: TrainConfig, *, notify: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Everything short of training: the first batch by channel A, its rollouts by channel B."""
    _require_stage2(config)
    return check_training(config, make_stage2_trainer, notify=notify)


def make_stage2_trainer(
    parts: Parts,
    request: StopRequest,
    callbacks: list[Any],
    notify: Callable[[str], None] = lambda _: None,
) -> Stage1Trainer:
    """The trainer of assembled parts, with the channels that its schedule asks for."""
    kind = partial(
        Stage2Trainer,
        stage2=parts.config.stage2,
        make_a=partial(_channel_a, parts),
        make_b=partial(_channel_b, parts, notify),
    )
    return make_trainer(parts, request, callbacks, notify, kind=kind)


def _channel_a(parts: Parts, trainer: Stage1Trainer) -> Channel:
    from coordeval.training.stage2.channel_a import ChannelA

    require_whole_weights(trainer)
    return ChannelA(
        trainer.model,
        parts.config.stage2,
        ids_or_stand_ins(parts.coord_ids, parts.reader),
        end_ids=sorted(parts.reader.end_ids),
        autocast=trainer.accelerator.autocast,
        seed=parts.config.seed,
        step=lambda: int(trainer.state.global_step),
    )


def _channel_b(
    parts: Parts, notify: Callable[[str], None], trainer: Stage1Trainer
) -> RolloutChannel:
    from coordeval.training.stage2.open_channel_b import open_channel_b

    return open_channel_b(parts, trainer, notify)


def require_whole_weights(trainer: Any) -> None:
    """ConfigError where channel A would find the model's weights in pieces.

    Its later iterations call the model inside the model's own call, and read rows of the tables.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    kind = "FSDP" if trainer.is_fsdp_enabled else "DeepSpeed ZeRO 3"
    if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
        raise ConfigError(
            f"channel A does not run under {kind}, which splits the weights: use data parallel "
            "training (or ZeRO 2), or stage2.b_ratio: 1, which is channel B alone"
        )


def _require_stage2(config: TrainConfig) -> None:
    if config.stage != 2:
        raise ConfigError(f"stage: this is a configuration of stage {config.stage}, not 2")


__all__ = ["check_stage2", "make_stage2_trainer", "require_whole_weights", "train_stage2"]
