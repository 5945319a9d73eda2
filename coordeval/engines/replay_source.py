"""A recorded run in place of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.data.dataset import file_sha256
from coordeval.engines.capabilities import require_capabilities
from coordeval.engines.identity import named_part
from coordeval.engines.replay import ReplayEngine
from coordeval.errors import CheckpointError
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.parsers.dialects import Dialect


class ReplaySource:
    """A recorded run; refuses an adapter and decode-time control, which come too late for it."""

    def __init__(self, options: RolloutOptions) -> None:
        if options.adapter is not None:
            raise CheckpointError("--adapter has no meaning for a recorded run")
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
        decode: DecodeSettings,
        dialect: Dialect,  # noqa: ARG002
        notify: Callable[[str], None],  # noqa: ARG002
    ) -> Engine:
        """Make the engine, as `Source.start`."""
        require_capabilities("replay", decode)
        return ReplayEngine(self._path, batch_size=self._batch_size)


__all__ = ["ReplaySource"]
