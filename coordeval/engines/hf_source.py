"""A checkpoint for Hugging Face transformers in this process."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import checkpoint_hash, resolve_checkpoint
from coordeval.engines.identity import named_part
from coordeval.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.parsers.dialects import Dialect


class HfSource:
    """A checkpoint folder or hub id, its tokenizer and image processor, and its adapter."""

    def __init__(self, options: RolloutOptions) -> None:
        checkpoint = resolve_checkpoint(options.checkpoint)
        _require("torch", "transformers", "safetensors")
        from transformers.utils import logging as transformers_logging

        from coordeval.engines.hf_loading import (
            check_adapter,
            load_reader,
            resolve_device,
            resolve_dtype,
        )

        transformers_logging.disable_progress_bar()
        self._options, self._checkpoint = options, checkpoint
        self._device = resolve_device(options.device)
        self._dtype_name, self._dtype = resolve_dtype(options.dtype, self._device)
        self._reader = load_reader(checkpoint, trust_remote_code=options.trust_remote_code)
        self.tokenizer: Any = self._reader.tokenizer
        self.checkpoint = named_part(
            checkpoint.path, checkpoint.name, checkpoint_hash(checkpoint.path)
        )
        self.adapter: dict[str, Any] | None = None
        if options.adapter is not None:
            folder = options.adapter.resolve()
            check_adapter(folder)
            self.adapter = named_part(folder, folder.name, checkpoint_hash(folder))

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        dialect: Dialect,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine, as `Source.start`."""
        from coordeval.engines.hf import HfEngine
        from coordeval.engines.hf_loading import load_model

        options = self._options
        return HfEngine(
            reader=self._reader,
            load=lambda: load_model(
                self._checkpoint,
                device=self._device,
                dtype=self._dtype,
                attention=options.attention,
                adapter=options.adapter,
                trust_remote_code=options.trust_remote_code,
            ),
            prompt=prompt,
            decode=decode,
            dialect=dialect,
            dtype=self._dtype_name,
            pixels=pixels,
            batch_size=options.batch_size,
            device=str(self._device),
            attention=options.attention,
            notify=notify,
        )


def _require(*modules: str) -> None:
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise MissingExtraError("rollout with Hugging Face", "hf")


__all__ = ["HfSource"]
