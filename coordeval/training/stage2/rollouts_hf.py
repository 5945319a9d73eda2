"""Training rollouts by the model itself, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.training.rollout_eval.live_engine import live_hf_engine
from coordeval.training.rollout_eval.live_model import decoding_model, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Rollout
    from coordeval.training.stage2.rollout_plan import RolloutPlan


class HfRollouts:
    """Decodes with the weights in memory, in their own number format, adapters in force.

    One engine lasts for the whole training: its grammar is compiled once, and a batch size that
    was halved for want of memory stays so. Raises ConfigError and CheckpointError where this
    tokenizer or dialect cannot have the control that is asked for.
    """

    def __init__(
        self, plan: RolloutPlan, reader: Reader, model: Any, *, notify: Callable[[str], None]
    ) -> None:
        self._model: Any = None
        self.decode: DecodeSettings = plan.decode
        self._engine = live_hf_engine(
            decoding_model(model), plan, reader, load=lambda: self._model, notify=notify
        )

    def answer(self, model: Any, requests: Sequence[Request]) -> list[Rollout]:
        """As `LiveEngine.answer`; no process waits for another."""
        if not requests:
            return []
        with undisturbed(model) as inner:
            self._model = inner
            try:
                return [rollout for batch in self._engine.generate(requests) for rollout in batch]
            finally:
                self._model = None
                self._engine.close()

    def close(self) -> None:
        """Nothing stays open between two steps."""


__all__ = ["HfRollouts"]
