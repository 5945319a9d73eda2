"""A checkpoint for vLLM in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.extras import require_extra
from coordeval.engines.identity import hashed_part
from coordeval.engines.vllm_settings import read_engine_args
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.parsers.dialects import Dialect


class VllmSource:
    """A checkpoint folder or hub id, its tokenizer and image processor, and its adapter."""

    def __init__(self, options: RolloutOptions) -> None:
        checkpoint = resolve_checkpoint(options.checkpoint)
        _check_options(options)
        engine_args = read_engine_args(options.engine_args)
        require_extra("rollout with vLLM", "vllm")
        from coordeval.engines.adapter_folder import check_adapter
        from coordeval.engines.hf_loading import (
            load_reader,
            resolve_device,
            resolve_dtype,
        )
        from coordeval.engines.vllm_loading import VllmSetup

        device = resolve_device(options.device)
        if device.index:
            raise ConfigError(
                f"--device {options.device}: vLLM takes the first devices that it sees; "
                f"set CUDA_VISIBLE_DEVICES={device.index} instead"
            )
        self._checkpoint = checkpoint
        self._reader = load_reader(checkpoint, trust_remote_code=options.trust_remote_code)
        self.tokenizer: Any = self._reader.tokenizer
        self.checkpoint = hashed_part(checkpoint.path, name=checkpoint.name)
        self.adapter: dict[str, Any] | None = None
        folder = None
        if options.adapter is not None:
            folder = options.adapter.resolve()
            check_adapter(folder)
            self.adapter = hashed_part(folder)
        self._setup = VllmSetup(
            dtype=resolve_dtype(options.dtype, device)[0],
            on_cpu=device.type == "cpu",
            tensor_parallel=options.tensor_parallel,
            gpu_memory_utilization=options.gpu_memory_utilization,
            max_model_len=options.max_model_len,
            trust_remote_code=options.trust_remote_code,
            adapter=folder,
            engine_args=engine_args,
        )

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
        from coordeval.engines.vllm import VllmEngine

        return VllmEngine(
            checkpoint=self._checkpoint,
            reader=self._reader,
            prompt=prompt,
            decode=decode,
            dialect=dialect,
            setup=self._setup,
            pixels=pixels,
            notify=notify,
        )


def _check_options(options: RolloutOptions) -> None:
    if options.attention != "auto":
        raise ConfigError("--attn is for Hugging Face; vLLM chooses its own")
    if options.tensor_parallel < 1:
        raise ConfigError("--tensor-parallel must be at least 1")
    if options.max_model_len is not None and options.max_model_len < 1:
        raise ConfigError("--max-model-len must be at least 1")
    share = options.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        raise ConfigError("--gpu-memory-utilization must be above 0 and at most 1")


__all__ = ["VllmSource"]
