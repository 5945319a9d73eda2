"""A checkpoint, server or recording that was found and checked, with no weights read yet.

Engines are opened in two steps, so that a run's settings are known, and a mismatch refused,
before any weights are read: the source first, then `start` with the prompt and the decode settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.parsers.dialects import Dialect


class Source(Protocol):
    """What an engine name and the options lead to; made from `RolloutOptions`.

    `checkpoint` and `adapter` are parts of the run's identity. `tokenizer` is None where there is
    none at hand: then nothing is derived from it.
    """

    checkpoint: dict[str, Any]
    adapter: dict[str, Any] | None
    tokenizer: Any

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        dialect: Dialect,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine; weights are read when it is first asked for a rollout.

        Raises ConfigError where the engine cannot do what `decode` asks for.
        """
        ...


__all__ = ["Source"]
