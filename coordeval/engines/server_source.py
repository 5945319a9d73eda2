"""A server in place of a checkpoint in this process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.extras import require_extra
from coordeval.engines.identity import hashed_part, named_part
from coordeval.engines.server_address import api_key, parse_address
from coordeval.engines.server_http import require_httpx
from coordeval.errors import ConfigError
from coordeval.foreign_paths import expand_home, is_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.options import RolloutOptions
    from coordeval.parsers.dialects import Dialect


class ServerSource:
    """What a server serves: CKPT is the local folder of the same checkpoint, else the served name.

    A folder gives tokenizer, vocabulary and a hash to know the run by; its weights are only hashed.
    """

    def __init__(self, options: RolloutOptions) -> None:
        _check_options(options)
        require_httpx()
        self._options = options
        self._address = parse_address(options.server_url)
        self._key = api_key()
        self._checkpoint: Checkpoint | None = None
        self._reader: Reader | None = None
        self.adapter: dict[str, Any] | None = None
        self.tokenizer: Any = None
        self._model = options.server_model
        if is_folder(expand_home(options.checkpoint)):
            self._read_folder(options)
        else:
            if self._model not in {None, options.checkpoint}:
                raise ConfigError(
                    f"CKPT {options.checkpoint!r} is neither a folder here nor the --server-model "
                    f"{self._model!r}: give the folder, or the served name alone"
                )
            self._model = options.checkpoint
            name = options.checkpoint.rstrip("/").rsplit("/", maxsplit=1)[-1]
            self.checkpoint = named_part(Path(options.checkpoint), name or "server", None)

    def _read_folder(self, options: RolloutOptions) -> None:
        require_extra("a local checkpoint folder beside a server", "hf")
        from coordeval.engines.hf_loading import load_reader

        checkpoint = resolve_checkpoint(options.checkpoint)
        self._checkpoint = checkpoint
        self._reader = load_reader(checkpoint, trust_remote_code=options.trust_remote_code)
        self.tokenizer = self._reader.tokenizer
        self.checkpoint = hashed_part(checkpoint.path, name=checkpoint.name)

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        dialect: Dialect,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine, as `Source.start`; a server that is away is asked again later."""
        from coordeval.engines.server import ServerEngine
        from coordeval.engines.server_retry import RetryPolicy

        options = self._options
        engine = ServerEngine(
            address=self._address,
            prompt=prompt,
            decode=decode,
            dialect=dialect,
            model=self._model,
            reader=self._reader,
            pixels=pixels,
            label=None if self._checkpoint is None else self._checkpoint.name,
            concurrency=options.concurrency,
            timeout_s=options.timeout_s,
            policy=RetryPolicy(retries=options.retries),
            key=self._key,
            notify=notify,
        )
        engine.connect(may_relax=True)
        return engine


def _check_options(options: RolloutOptions) -> None:
    """Refuse what has no meaning here, and numbers out of range."""
    if options.adapter is not None:
        raise ConfigError(
            "--adapter: a server loads its own (--enable-lora --lora-modules NAME=DIR); give the "
            "name that it is served by as --server-model"
        )
    for given, option in (
        (options.attention != "auto", "--attn"),
        (options.dtype != "auto", "--dtype"),
        (options.device != "auto", "--device"),
        (options.tensor_parallel != 1, "--tensor-parallel"),
        (options.gpu_memory_utilization is not None, "--gpu-memory-utilization"),
        (options.max_model_len is not None, "--max-model-len"),
        (bool(options.engine_args), "--engine-arg"),
    ):
        if given:
            raise ConfigError(f"{option} is for the server itself: start the server with it")
    if options.concurrency < 1:
        raise ConfigError("--concurrency must be at least 1")
    if options.retries < 0:
        raise ConfigError("--retries must be at least 0")
    if not (math.isfinite(options.timeout_s) and options.timeout_s > 0):
        raise ConfigError("--timeout must be above 0 seconds")


__all__ = ["ServerSource"]
