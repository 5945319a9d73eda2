"""Training rollouts by a vLLM engine beside the training, with the weights of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.engines.extras import require_extra
from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.live_model import undisturbed
from coordeval.training.rollout_eval.vllm_engine import VllmBeside
from coordeval.training.stage2.rollout_plan import WHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Rollout
    from coordeval.training.stage2.rollout_plan import RolloutPlan


class VllmRollouts:
    """Hands the weights to vLLM before every step's rollouts; what it had cached is dropped.

    vLLM starts at the first rollout, from a checkpoint written once into `folder`. Raises
    MissingExtraError without vLLM, and ConfigError for a training of several processes.
    """

    def __init__(
        self,
        plan: RolloutPlan,
        reader: Reader,
        folder: Path,
        *,
        processes: int,
        notify: Callable[[str], None],
    ) -> None:
        require_extra(f"{WHERE}.engine vllm", "vllm")
        if processes > 1:
            raise ConfigError(
                f"{WHERE}.engine vllm lives beside one training process; with several choose "
                "engine: hf, or engine: server"
            )
        self.decode: DecodeSettings = plan.decode
        self._beside = VllmBeside(
            plan.options, plan, reader, folder, start_folder=folder / ".rollout_vllm", notify=notify
        )

    def answer(self, model: Any, requests: Sequence[Request]) -> list[Rollout]:
        """As `LiveEngine.answer`; the first call starts vLLM."""
        if not requests:
            return []
        with undisturbed(model):
            engine = self._beside.engine(model)
            return [rollout for batch in engine.generate(requests) for rollout in batch]

    def close(self) -> None:
        """Stop vLLM; safe to call twice."""
        self._beside.close()


__all__ = ["VllmRollouts"]
