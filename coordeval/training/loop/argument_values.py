"""Values under `trainer:` as TrainingArguments means them, whatever YAML took them for."""

from __future__ import annotations

import math
import typing
from typing import Any

from coordeval.errors import ConfigError

STRATEGIES = ("eval_strategy", "save_strategy")
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "num_train_epochs": 0,
    "warmup_steps": 0,
    "save_total_limit": 0,
    "data_seed": 0,
}
"""Numbers below these would end in an error of the library's, in the middle of things."""


def read_values(given: dict[str, Any]) -> dict[str, Any]:
    """The same arguments, numbers as numbers.

    YAML takes `1e-4` for text and a bare `no` for false. Raises ConfigError for what is no number,
    not whole, not finite or too small where TrainingArguments has a number.
    """
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    return {name: _read(name, value, hints[name]) for name, value in given.items()}


def _read(name: str, value: Any, hint: Any) -> Any:
    if name in STRATEGIES and value is False:
        return "no"
    if name == "lr_scheduler_kwargs" and isinstance(value, dict):
        return {key: _perhaps_number(inner) for key, inner in value.items()}
    kinds = set(typing.get_args(hint) or (hint,))
    if str in kinds or not kinds & {int, float} or (value is None and type(None) in kinds):
        return value
    number = _perhaps_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ConfigError(f"trainer.{name} must be a number, not {value!r}")
    if float not in kinds:
        if isinstance(value, float) or number != int(number):
            raise ConfigError(f"trainer.{name} must be a whole number, not {value!r}")
        number = int(number)
    least = LEAST.get(name)
    if least is not None and number < least:
        what = "a whole number" if float not in kinds else "a number"
        raise ConfigError(f"trainer.{name} must be {what} from {least}, not {value!r}")
    return number


def _perhaps_number(value: Any) -> Any:
    """Text that reads as a number as that number; all else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


__all__ = ["LEAST", "STRATEGIES", "read_values"]
