"""A checkpoint for Hugging Face transformers in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.extras import require_extra
from coordeval.engines.identity import hashed_part

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
        require_extra("rollout with Hugging Face", "hf")
        from transformers.utils import logging as transformers_logging

        from coordeval.engines.adapter_folder import check_adapter
        from coordeval.engines.hf_loading import (
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
        self.checkpoint = hashed_part(checkpoint.path, name=checkpoint.name)
        self.adapter: dict[str, Any] | None = None
        if options.adapter is not None:
            folder = options.adapter.resolve()
            check_adapter(folder)
            self.adapter = hashed_part(folder)

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


__all__ = ["HfSource"]
