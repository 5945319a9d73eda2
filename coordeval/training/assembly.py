"""From a configuration to everything that a trainer is made of, checked before it trains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_reader
from coordeval.errors import ConfigError
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.packing import check_packing
from coordeval.training.data.skips import SkipLedger
from coordeval.training.loop.checkpoint_files import CheckpointFiles
from coordeval.training.loop.train_log import TrainLog
from coordeval.training.loop.trainer import Stage1Trainer
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.losses.sigma import sigma_at
from coordeval.training.stage2.plain_objective import plain_objective
from coordeval.training.tuning.adapters import ADAPTERS, load_for_training, prepare_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.engines.hf_loading import Reader
    from coordeval.training.config import ObjectiveConfig, TrainConfig
    from coordeval.training.loop.stopping import StopRequest
    from coordeval.training.tuning.coord_only import CoordRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything of a training before its trainer; `coord_ids` None: a tokenizer without them.

    `objective` is what the teacher-forced pass computes: what stage 1 trains on, and what both
    stages evaluate (see `plain_objective` for stage 2).
    """

    config: TrainConfig
    args: Any
    checkpoint: Checkpoint
    reader: Reader
    train: TrainDataset
    eval: TrainDataset | None
    objective: Stage1Objective
    coord_ids: tuple[int, ...] | None
    model: Any
    rows: list[CoordRows]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.output_dir)


def assemble(config: TrainConfig, args: Any, notify: Callable[[str], None]) -> Parts:
    """Open data and checkpoint and prepare the model; errors of any part come from here.

    Random weights of adapters are drawn from `seed`.
    """
    from transformers import set_seed

    checkpoint = resolve_checkpoint(config.model)
    reader = load_reader(checkpoint)
    coord_ids = _coord_ids(reader)
    plain = config.objective if config.stage == 1 else plain_objective(config.stage2)
    needs = needs_coordinates(plain)
    train = TrainDataset(
        config.data, reader, split="train", seed=config.seed, needs_coordinates=needs
    )
    evaluation = None
    if config.data.eval is not None:
        evaluation = TrainDataset(config.data, reader, split="eval", seed=config.seed)
    for name, dataset in (("data.train", train), ("data.eval", evaluation)):
        for line in [] if dataset is None else dataset.report.notes():
            notify(f"{name}: {line}")
    objective = Stage1Objective.from_config(
        plain,
        ids_or_stand_ins(coord_ids, reader),
        end_ids=sorted(reader.end_ids),
    )
    model = load_for_training(checkpoint, config, bf16=bool(args.bf16))
    if config.data.packing:
        check_packing(model.config)
    set_seed(config.seed)
    model, rows = prepare_parameters(model, config, coord_ids)
    if rows and is_sharded(args):
        raise ConfigError(
            "tune: rows of coordinate tokens with a learning rate of their own need whole tables; "
            "train without FSDP and DeepSpeed, or without tune.coord_rows_lr and coord_rows"
        )
    return Parts(
        config=config,
        args=args,
        checkpoint=checkpoint,
        reader=reader,
        train=train,
        eval=evaluation,
        objective=objective,
        coord_ids=coord_ids,
        model=model,
        rows=rows,
    )


def is_sharded(args: Any) -> bool:
    """Whether parameters will be cut up over processes, by our arguments or the launcher's."""
    flags = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    launched = any(os.environ.get(flag, "").lower() in {"1", "true"} for flag in flags)
    return bool(args.fsdp or args.deepspeed or launched)


def needs_coordinates(objective: ObjectiveConfig) -> bool:
    """Whether any term of an objective is taken at coordinates."""
    weights = objective.weights()
    return any(weight for name, weight in weights.items() if name not in {"text_ce", "text_gate"})


def make_trainer(
    parts: Parts,
    request: StopRequest,
    callbacks: list[Any],
    notify: Callable[[str], None] = lambda _: None,
    *,
    kind: Callable[..., Stage1Trainer] = Stage1Trainer,
) -> Stage1Trainer:
    """The trainer of assembled parts; the library's own printing is taken out of it.

    `kind` is its class, or what makes one of the same arguments.
    """
    from transformers import PrinterCallback
    from transformers import ProgressCallback as LibraryProgress

    config, args = parts.config, parts.args
    plain = config.objective  # at its defaults in stage 2, whose sigma stays as it is
    if args.n_gpu > 1:
        # Several devices of one process would split batches behind the objective's back.
        args._n_gpu = 1  # noqa: SLF001 - as the library does for models that it spreads itself
    coord_ids_K = None
    if parts.coord_ids is not None:
        coord_ids_K = torch.tensor(parts.coord_ids, device=args.device)
    _require_a_batch(parts)
    trainer = _made(
        kind,
        args,
        model=parts.model,
        train_dataset=parts.train,
        eval_dataset=parts.eval,
        processing_class=CheckpointFiles(
            parts.checkpoint.path, adapter=config.tune.what in ADAPTERS
        ),
        callbacks=callbacks,
        objective=parts.objective,
        train_log=TrainLog(parts.folder, writes=args.process_index == 0),
        folder=parts.folder,
        tune=config.tune,
        monitor=config.monitor,
        coord_ids_K=coord_ids_K,
        stop_request=request,
        ledger=SkipLedger(config.data.max_unreadable),
        notify=notify,
        rows=parts.rows,
        rows_only=config.tune.what == "coord_rows",
        sigma_at=None if plain.sigma_end is None else partial(sigma_at, plain),
    )
    for theirs in (PrinterCallback, LibraryProgress):
        trainer.remove_callback(theirs)
    return trainer


def _made(kind: Callable[..., Stage1Trainer], args: Any, **rest: Any) -> Stage1Trainer:
    """The trainer; ConfigError for arguments that the library refuses only now."""
    try:
        Stage1Trainer.get_optimizer_cls_and_kwargs(args)  # is its library there?
    except (ValueError, ImportError, RuntimeError) as error:
        raise _refused(error) from None
    try:
        return kind(args=args, **rest)
    except (ValueError, ImportError) as error:
        raise _refused(error) from None


def _refused(error: Exception) -> ConfigError:
    return ConfigError(f"trainer: {' '.join(str(error).split())[:400]}")


def _require_a_batch(parts: Parts) -> None:
    """Refuse a training without a step."""
    together = parts.args.per_device_train_batch_size * parts.args.world_size
    if parts.args.dataloader_drop_last and len(parts.train) < together:
        raise ConfigError(
            f"trainer.dataloader_drop_last leaves no batch: {len(parts.train)} samples or rows, "
            f"{together} to a batch"
        )


def _coord_ids(reader: Reader) -> tuple[int, ...] | None:
    vocabulary = reader.coord_vocabulary()
    # None is fine for dialects of integers; the dataset refuses it for all others.
    return None if vocabulary is None else vocabulary.token_ids


def ids_or_stand_ins(coord_ids: tuple[int, ...] | None, reader: Reader) -> tuple[int, ...]:
    """Coordinate ids; where there are none, two ids that are never taught."""
    if coord_ids is not None:
        return coord_ids
    other = reader.image_token_id - 1 if reader.image_token_id else 1
    return reader.image_token_id, other


__all__ = [
    "Parts",
    "assemble",
    "ids_or_stand_ins",
    "is_sharded",
    "make_trainer",
    "needs_coordinates",
]
