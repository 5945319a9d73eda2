"""A vLLM engine beside the training, which gets the current weights before every evaluation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval.engines.extras import require_extra
from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.live_checkpoint import merged, save_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.options import RolloutOptions
    from coordeval.training.rollout_eval.live_engine import Asking


class VllmBeside:
    """Starts vLLM when it is first asked for, and keeps it until `close`.

    vLLM starts from a checkpoint, written once into `start_folder` (None: `eval/.vllm` of `folder`)
    and removed at the end.
    """

    def __init__(
        self,
        options: RolloutOptions,
        plan: Asking,
        reader: Reader,
        folder: Path,
        *,
        start_folder: Path | None = None,
        notify: Callable[[str], None],
    ) -> None:
        self._options, self._plan, self._reader = options, plan, reader
        self._start_folder = start_folder or folder / "eval" / ".vllm"
        self._notify = notify
        self._engine: Any = None

    def engine(self, model: Any) -> Any:
        """The engine with the model's current weights."""
        if self._engine is None:
            self._engine = self._open(model)
        self._engine.refresh_weights(lambda: current_weights(model))
        return self._engine

    def _open(self, model: Any) -> Any:
        from coordeval.engines.vllm_source import VllmSource

        save_live(model, self._reader, self._start_folder, trainer=None, main=True)
        options = replace(
            self._options, checkpoint=str(self._start_folder), engine="vllm", limit=None
        )
        plan = self._plan
        return VllmSource(options).start(
            prompt=plan.prompt,
            pixels=plan.pixels,
            decode=plan.decode,
            dialect=plan.dialect,
            notify=self._notify,
        )

    def close(self) -> None:
        """Stop vLLM; safe to call twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        shutil.rmtree(self._start_folder, ignore_errors=True)


def check_vllm(*, world: int, sharding: str) -> None:
    """Refuse at the start where vLLM is missing or cannot live beside this training."""
    require_extra("rollout_eval.engine vllm", "vllm")
    if world > 1 or sharding != "none":
        raise ConfigError(
            "rollout_eval.engine vllm lives beside one training process; with several choose "
            "engine: process (with decode.engine: vllm, if you like) or hf"
        )


def current_weights(model: Any) -> dict[str, Any]:
    """Names, as a checkpoint has them, to the weights now; adapters are merged into a copy."""
    inner = merged(model)
    return {name: tensor.detach() for name, tensor in inner.state_dict().items()}


__all__ = ["VllmBeside", "check_vllm", "current_weights"]
