"""Options to an engine: the one table of engines, and what each needs before it can start.

An opener is called in two steps, so that a run's settings are known, and a mismatch refused,
before any weights are read: `open_source`, then `start` with the prompt and the decode settings.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from coordeval.data.dataset import file_sha256
from coordeval.engines.checkpoint import checkpoint_hash, resolve_checkpoint
from coordeval.engines.identity import named_part
from coordeval.engines.replay import ReplayEngine
from coordeval.errors import CheckpointError, ConfigError, MissingExtraError
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions


class Source(Protocol):
    """A checkpoint or recording that was found and checked, with no weights read yet."""

    checkpoint: dict[str, Any]
    adapter: dict[str, Any] | None
    tokenizer: Any

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine; weights are read when it is first asked for a rollout."""
        ...


class ReplaySource:
    """A recorded run instead of a checkpoint."""

    def __init__(self, options: RolloutOptions) -> None:
        path = Path(options.checkpoint)
        self._path, self._batch_size = path, options.batch_size
        content = file_sha256(open_run(path).rollouts_path)
        self.checkpoint = named_part(path.resolve(), path.resolve().name, content)
        self.adapter: dict[str, Any] | None = None
        self.tokenizer: Any = None

    def start(
        self,
        *,
        prompt: Prompt,  # noqa: ARG002 - a recording was made under its own prompt
        pixels: PixelLimits | None,  # noqa: ARG002
        decode: DecodeSettings,  # noqa: ARG002
        notify: Callable[[str], None],  # noqa: ARG002
    ) -> Engine:
        """Make the engine, as `Source.start`."""
        return ReplayEngine(self._path, batch_size=self._batch_size)


class HfSource:
    """A checkpoint for Hugging Face transformers in this process."""

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
            dtype=self._dtype_name,
            pixels=pixels,
            batch_size=options.batch_size,
            device=str(self._device),
            attention=options.attention,
            notify=notify,
        )


SOURCES: dict[str, type[HfSource | ReplaySource]] = {"hf": HfSource, "replay": ReplaySource}


def open_source(options: RolloutOptions) -> Source:
    """Find and check what the options name; ConfigError for an unknown engine."""
    try:
        source = SOURCES[options.engine]
    except KeyError:
        known = ", ".join(SOURCES)
        raise ConfigError(f"unknown engine {options.engine!r}: use one of {known}") from None
    if options.adapter is not None and options.engine == "replay":
        raise CheckpointError("--adapter has no meaning for a recorded run")
    return source(options)


def _require(*modules: str) -> None:
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise MissingExtraError("rollout with Hugging Face", "hf")


__all__ = ["SOURCES", "Source", "open_source"]
