"""A model in the middle of its training: what decodes of it, and how it is left as it was.

Decoding touches more than weights: modes, hooks, cached positions, generation settings, random
states. All of that is put back, so that training goes on as if nothing had been asked.
"""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def unwrapped(model: Any) -> Any:
    """The model without what distributes or compiles it; PEFT's wrapper stays."""
    from accelerate.utils import (  # type: ignore[import-untyped, unused-ignore]
        extract_model_from_parallel,
    )

    return extract_model_from_parallel(model, keep_torch_compile=False)


def is_peft(model: Any) -> bool:
    """True for PEFT's wrapper around a model."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def decoding_model(model: Any) -> Any:
    """What generates: the innermost model, adapters inside it in force.

    Raises ConfigError for prompt-learning adapters, which have no part in `generate` here, and
    for what is no generating model.
    """
    inner = unwrapped(model)
    if is_peft(inner):
        if inner.active_peft_config.is_prompt_learning:
            raise ConfigError("rollout_eval: prompt-learning adapters are not supported; use LoRA")
        # The layers are changed in place: the base model runs with the adapter.
        inner = inner.get_base_model()
    if not hasattr(inner, "generate") or not hasattr(inner, "config"):
        raise ConfigError(f"rollout_eval: {type(inner).__name__} cannot generate")
    return inner


@contextmanager
def undisturbed(model: Any) -> Iterator[Any]:
    """The model that decodes, in its weights' own number format; everything is as before after.

    Kept and put back: every attribute of every module (training mode, hooks, replaced forwards,
    gradient checkpointing, cached positions), buffers, configurations and generation settings,
    `requires_grad` and gradients; the random states of torch, CUDA, numpy and Python. Mixed
    precision is left out while it lasts, so that what is written depends on the weights alone.
    """
    modules = _Modules(model)
    randomness = _Randomness()
    precision, grad = torch.get_float32_matmul_precision(), torch.is_grad_enabled()
    try:
        inner = decoding_model(model)
        _leave_mixed_precision(inner)
        _leave_swift_template(inner)
        device = next(inner.parameters()).device.type
        with torch.autocast(device, enabled=False):
            yield inner
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_grad_enabled(grad)
        modules.restore()
        randomness.restore()


def _leave_mixed_precision(model: Any) -> None:
    """Take off the autocast that accelerate put around `forward`; `undisturbed` puts it back."""
    original = vars(model).get("_original_forward")
    if original is not None:
        model.forward = original


def _leave_swift_template(model: Any) -> None:
    """Take off ms-swift's hook, which makes a training batch of every call; put back likewise.

    For Qwen2-VL and Qwen2.5-VL it would drop the cache of a generation in silence.
    """
    hooks = model._forward_pre_hooks  # noqa: SLF001
    for key, hook in list(hooks.items()):
        if type(getattr(hook, "__self__", None)).__module__.partition(".")[0] == "swift":
            del hooks[key]


class _Modules:
    """What modules hold besides the values of their parameters."""

    def __init__(self, model: nn.Module) -> None:
        self._held = [_Held(module) for module in model.modules()]
        for module in model.modules():
            self._held += [_Held(item) for item in _configs(module)]
        self._parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
        self._buffers = [(b, b._version, b.detach().clone()) for b in model.buffers()]  # noqa: SLF001

    def restore(self) -> None:
        for held in self._held:
            held.restore()
        for parameter, requires_grad, grad in self._parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for buffer, version, value in self._buffers:
            if buffer._version != version:  # noqa: SLF001
                buffer.data.copy_(value)


class _Held:
    """The attributes of one object; the content of its own tables (hooks, buffers) too."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._attributes = dict(vars(owner))
        self._tables = [
            (value, value.copy()) for value in vars(owner).values() if isinstance(value, dict)
        ]

    def restore(self) -> None:
        vars(self._owner).clear()
        vars(self._owner).update(self._attributes)
        for table, content in self._tables:
            if table.keys() != content.keys() or any(
                table[key] is not value for key, value in content.items()
            ):
                table.clear()
                table.update(content)


def _configs(module: Any) -> list[Any]:
    from transformers import GenerationConfig, PretrainedConfig

    kinds = (GenerationConfig, PretrainedConfig)
    return [value for value in vars(module).values() if isinstance(value, kinds)]


class _Randomness:
    """The state of every generator that training may draw from."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = torch.cuda.get_rng_state_all() if used else None
        self._numpy = np.random.get_state()  # noqa: NPY002 - what others draw from is kept
        self._python = random.getstate()

    def restore(self) -> None:
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)


__all__ = ["decoding_model", "is_peft", "undisturbed", "unwrapped"]
