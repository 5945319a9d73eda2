"""Models as they are trained: whole, their coordinate rows alone, or with LoRA or DoRA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coordeval.engines.adapter_folder import check_adapter
from coordeval.engines.hf_loading import load_model
from coordeval.errors import CheckpointError, ConfigError, MissingExtraError
from coordeval.training.tuning.coord_only import CoordRows, coord_rows, tables_of, train_rows_only
from coordeval.training.tuning.param_groups import freeze_still_parts, part_of, require_learning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.training.config import TrainConfig, TuneConfig

ADAPTERS = ("lora", "dora")


def load_for_training(checkpoint: Checkpoint, config: TrainConfig, *, bf16: bool) -> Any:
    """The model with float32 weights, on the CPU, in training mode; an adapter merged or attached.

    Under LoRA and DoRA with `trainer.bf16` the frozen weights are kept in bfloat16 (the adapter's
    stay in float32). `adapter` is gone on with under `lora`/`dora`, else merged into the weights.
    """
    tune = config.tune
    attaches = tune.what in ADAPTERS
    adapter = None if config.adapter is None else Path(config.adapter)
    if adapter is not None:
        check_adapter(adapter)
    dtype = torch.bfloat16 if bf16 and attaches else torch.float32
    model = load_model(
        checkpoint, device=torch.device("cpu"), dtype=dtype, attention=config.attention
    )
    if adapter is not None and not attaches:
        model = _merged(model, adapter)
    return model.train()


def prepare_parameters(
    model: Any, config: TrainConfig, coord_ids_K: Sequence[int] | None
) -> tuple[Any, list[CoordRows]]:
    """Freeze, attach adapters and take out coordinate rows as `tune` says.

    Returns the model to train (PEFT's wrapper under LoRA) and the coordinate rows with an
    optimizer group of their own. Raises ConfigError where rows are asked for and there are no
    coordinate tokens, or nothing learns.
    """
    tune = config.tune
    wants_rows = tune.what == "coord_rows" or tune.coord_rows_lr is not None
    if wants_rows and coord_ids_K is None:
        raise ConfigError("tune: the rows of coordinate tokens need a tokenizer that has them")
    rows: list[CoordRows] = []
    if tune.what in ADAPTERS:
        model = _with_adapter(model, config, coord_ids_K if wants_rows else None)
    elif tune.what == "coord_rows":
        train_rows_only(model)
    if tune.what != "coord_rows":
        freeze_still_parts(model, tune)
    if wants_rows and tune.what not in ADAPTERS:
        assert coord_ids_K is not None
        rows = _rows(model, tune, coord_ids_K)
    require_learning(model)
    return model, rows


def _rows(model: Any, tune: TuneConfig, ids_K: Sequence[int]) -> list[CoordRows]:
    """The rows; of tables that are frozen otherwise, only theirs is a gradient."""
    alone = tune.what == "coord_rows"
    if tune.language_lr == 0 and not alone:
        if tune.coord_rows_lr == 0:
            return []
        alone = True
        for table in tables_of(model):
            table.requires_grad_(True)
    return coord_rows(model, ids_K, alone=alone)


def _with_adapter(model: Any, config: TrainConfig, row_ids: Sequence[int] | None) -> Any:
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError:
        raise MissingExtraError(f"tune.what: {config.tune.what}", "peft") from None
    if config.adapter is not None:
        wrapped = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
        names = (name for name, _ in wrapped.named_parameters())
        if row_ids is not None and not any(part_of(name) == "coord_rows" for name in names):
            raise ConfigError(
                f"tune.coord_rows_lr: the adapter {config.adapter} has no rows of its own for the "
                "coordinate tokens; leave the rate out, or merge the adapter (tune.what: full)"
            )
        return wrapped
    tune = config.tune
    settings: dict[str, Any] = {
        "r": tune.lora_rank,
        "lora_alpha": tune.lora_alpha,
        "lora_dropout": tune.lora_dropout,
        "target_modules": lora_targets(tune),
        "use_dora": tune.what == "dora",
    }
    if row_ids is not None:
        settings["trainable_token_indices"] = token_indices(model, row_ids)
    try:
        return get_peft_model(model, LoraConfig(**settings))
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"tune: the adapter cannot be attached: {reason}") from None


def lora_targets(tune: TuneConfig) -> str | list[str]:
    """`all-linear`, a list of module names separated by commas, or one regular expression."""
    text = tune.lora_targets.strip()
    if "," in text:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text if text == "all-linear" or not text.isidentifier() else [text]


def token_indices(model: Any, ids: Sequence[int]) -> dict[str, list[int]]:
    """Which rows PEFT is to train, by module: the embedding's, and those of a head of its own."""
    out = {_module_name(model, model.get_input_embeddings()): list(ids)}
    head = model.get_output_embeddings()
    if head.weight is not model.get_input_embeddings().weight:
        out[_module_name(model, head)] = list(ids)
    return out


def _module_name(model: Any, wanted: Any) -> str:
    names = (name for name, module in model.named_modules() if module is wanted)
    return str(next(names)).rsplit(".", 1)[-1]


def _merged(model: Any, folder: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtraError("an adapter", "peft") from None
    try:
        merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: the adapter cannot be merged: {reason}") from None
    return merged.requires_grad_(True)  # attaching an adapter froze the weights


__all__ = ["ADAPTERS", "load_for_training", "lora_targets", "prepare_parameters", "token_indices"]
