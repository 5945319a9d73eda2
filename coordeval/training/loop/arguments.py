"""`trainer:` of a configuration as transformers' TrainingArguments, with what we set ourselves."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.training.loop.argument_values import read_values

if TYPE_CHECKING:
    from coordeval.training.config import TrainConfig

OWN: dict[str, str] = {
    "output_dir": "it is output_dir at the top of the file",
    "seed": "it is seed at the top of the file",
    "remove_unused_columns": "the collator's batches are not the model's arguments",
    "logging_nan_inf_filter": "a loss that is not finite must not be hidden",
    "logging_steps": "train_log.jsonl has a line for every optimizer step",
    "logging_strategy": "train_log.jsonl has a line for every optimizer step",
    "logging_first_step": "train_log.jsonl has a line for every optimizer step",
    "label_smoothing_factor": "the objective is set under objective: (see objective.sigma)",
    "label_names": "the objective reads the collator's labels",
    "use_liger_kernel": "the head and the loss are computed together, chunk by chunk, already",
    "average_tokens_across_devices": "every term is divided by its count over all processes",
    "resume_from_checkpoint": "use --resume",
    "ignore_data_skip": "a resumed training goes on with the next sample",
    "save_only_model": "a checkpoint must be good for an exact resume",
    "enable_jit_checkpoint": "Ctrl-C and SIGTERM save a checkpoint already",
    "auto_find_batch_size": "it changes what an optimizer step is",
    "dataloader_persistent_workers": "workers start anew with every epoch's order",
    "length_column_name": "samples are not grouped by length",
    "include_num_input_tokens_seen": "train_log.jsonl counts input tokens",
    "prediction_loss_only": "evaluation never keeps predictions",
    "fp16": "use bf16: full-vocabulary sums overflow in fp16",
    "fp16_full_eval": "evaluation runs as training does",
    "bf16_full_eval": "evaluation runs as training does",
    "restore_callback_states_from_checkpoint": "callbacks are made from the configuration",
    "torch_compile": "the loss is taken by hooks in the forward pass, which cannot be compiled",
    "use_cache": "training needs no cache, and checkpoints keep theirs",
    "do_train": "coordeval train trains",
    "do_eval": "set eval_strategy",
    "do_predict": "use coordeval rollout",
    "local_rank": "launchers set it",
    "hub_token": "set HF_TOKEN in the environment: the configuration is written to output_dir",
}
"""Arguments that are refused under `trainer:`, and why."""

SAMPLING = ("random", "sequential")


def training_arguments(config: TrainConfig) -> Any:
    """Build TrainingArguments; ConfigError for what is unknown, refused, or contradictory.

    Where `data.eval` is given and no `eval_strategy`, evaluation is at the end of every epoch;
    TensorBoard gets the log where it is installed and `report_to` is not set. Without an
    accelerator `use_cpu` is set, or the processes of a launcher would not find each other.
    """
    from transformers import TrainingArguments

    # The library fills in and rewrites the tables that it is handed (fsdp_config, deepspeed).
    given = copy.deepcopy(config.trainer)
    check_names(given)
    given = _present_names(read_values(given))
    _check_values(given, has_eval=config.data.eval is not None)
    values = {**_defaults(given, config), **given, **_fixed(config)}
    try:
        args = TrainingArguments(**values)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())[:400]}") from None
    check_processes(args.world_size)
    return args


def check_processes(world_size: int) -> None:
    """ConfigError where a launcher started several processes and each would train alone."""
    launched = os.environ.get("WORLD_SIZE", "1")
    if "LOCAL_RANK" in os.environ and launched != "1" and world_size == 1:
        raise ConfigError(
            f"trainer: {launched} processes were launched, but each would train alone; set "
            "trainer.use_cpu: true to train on the CPU, or give every process a device"
        )


def check_names(given: dict[str, Any]) -> None:
    """ConfigError for a name that TrainingArguments does not have, or that is set elsewhere."""
    from transformers import TrainingArguments

    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    for name in given:
        if name in OWN:
            raise ConfigError(f"trainer.{name} cannot be set here: {OWN[name]}")
        if name not in known:
            near = difflib.get_close_matches(str(name), known - set(OWN), n=1)
            hint = f"did you mean trainer.{near[0]}?" if near else "see transformers' docs"
            raise ConfigError(f"unknown key trainer.{name}; {hint}")


def _present_names(given: dict[str, Any]) -> dict[str, Any]:
    """Gradient checkpointing under the name that the installed library prefers."""
    from transformers import TrainingArguments

    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    old, new = "gradient_checkpointing", "activation_checkpointing"
    if new not in known:
        return given
    return {
        name.replace(old, new) if name in (old, f"{old}_kwargs") else name: value
        for name, value in given.items()
    }


def _check_values(given: dict[str, Any], *, has_eval: bool) -> None:
    sampling = given.get("train_sampling_strategy", "random")
    if sampling not in SAMPLING:
        raise ConfigError(
            f"trainer.train_sampling_strategy: {sampling!r} is not one of {', '.join(SAMPLING)}"
        )
    if not has_eval and str(given.get("eval_strategy", "no")) != "no":
        raise ConfigError("trainer.eval_strategy needs evaluation data: set data.eval")


def _defaults(given: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    import torch

    out: dict[str, Any] = {"ddp_find_unused_parameters": False}
    if not torch.accelerator.is_available():
        out["use_cpu"] = True
    if config.data.eval is not None:
        out["eval_strategy"] = "epoch"
    if "report_to" not in given:
        found = importlib.util.find_spec("tensorboard") is not None
        out["report_to"] = ["tensorboard"] if found else "none"
    return out


def _fixed(config: TrainConfig) -> dict[str, Any]:
    return {
        "output_dir": config.output_dir,
        "seed": config.seed,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "dataloader_persistent_workers": False,
        "use_cache": True,
    }


__all__ = ["OWN", "check_names", "check_processes", "training_arguments"]
