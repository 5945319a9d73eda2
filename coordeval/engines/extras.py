"""Which modules an extra brings, and the one line that says that it is not installed."""

from __future__ import annotations

import importlib.util

from coordeval.errors import MissingExtraError

_HF = ("torch", "transformers", "safetensors")
MODULES = {
    "hf": _HF,
    "vllm": (*_HF, "vllm"),
    "train": (*_HF, "accelerate"),
}
"""What the work of an extra cannot be begun without."""


def has_extra(extra: str) -> bool:
    """Whether all modules of an extra are installed; none of them is imported."""
    return all(importlib.util.find_spec(module) is not None for module in MODULES[extra])


def require_extra(what: str, extra: str) -> None:
    """MissingExtraError where a module is missing that `what` needs."""
    if not has_extra(extra):
        raise MissingExtraError(what, extra)


__all__ = ["MODULES", "has_extra", "require_extra"]
