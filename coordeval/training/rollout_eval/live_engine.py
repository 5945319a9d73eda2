"""The Hugging Face engine around a model in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from coordeval.engines.hf import HfEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect

_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Asking(Protocol):
    """How a model is asked: what an evaluation and a training rollout have in common."""

    @property
    def prompt(self) -> Prompt:
        """The prompt of every sample."""
        ...

    @property
    def pixels(self) -> PixelLimits | None:
        """Limits of the images; None: the checkpoint's own."""
        ...

    @property
    def decode(self) -> DecodeSettings:
        """How tokens are chosen."""
        ...

    @property
    def dialect(self) -> Dialect:
        """What the answer is written in."""
        ...

    @property
    def batch_size(self) -> int:
        """How many samples are decoded at a time."""
        ...


def live_hf_engine(
    model: Any,
    asking: Asking,
    reader: Reader,
    *,
    load: Callable[[], Any] | None = None,
    notify: Callable[[str], None],
) -> HfEngine:
    """The engine around a generating model.

    `load` gives the model when it is first needed, and again after `close` (None: `model` itself).
    Raises ConfigError and CheckpointError where prompt, tokenizer or dialect cannot have what
    `asking` wants.
    """
    first = next(model.parameters())
    return HfEngine(
        reader=reader,
        load=load or (lambda: model),
        prompt=asking.prompt,
        decode=asking.decode,
        dialect=asking.dialect,
        dtype=_DTYPES.get(first.dtype, str(first.dtype)),
        pixels=asking.pixels,
        batch_size=asking.batch_size,
        device=str(first.device),
        attention=str(getattr(model.config, "_attn_implementation", None) or "auto"),
        notify=notify,
    )


__all__ = ["Asking", "live_hf_engine"]
