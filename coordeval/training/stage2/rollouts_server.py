"""Training rollouts by a server, which is given the weights of every step or keeps its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.engines.server import ServerEngine
from coordeval.engines.server_address import api_key, parse_address
from coordeval.engines.server_retry import RetryPolicy
from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.ranks import agree
from coordeval.training.stage2.rollout_plan import WHERE
from coordeval.training.stage2.server_weights import ServerWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Rollout
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.stage2.config import RolloutConfig
    from coordeval.training.stage2.rollout_plan import RolloutPlan


class ServerRollouts:
    """Asks a server for the rollouts of this process, at most `concurrency` at a time.

    Weights go to it by `ServerWeights`; with `server_weights: own` they do not, and `notify` hears
    that these are rollouts of another model. The server must give token ids, and must read prompts
    as the training does. Made on every process. Raises ConfigError on all of them for a server
    that is away or cannot do what is asked for.
    """

    def __init__(
        self,
        plan: RolloutPlan,
        reader: Reader,
        config: RolloutConfig,
        folder: Path,
        ranks: Ranks,
        *,
        trainer: Any,
        notify: Callable[[str], None],
    ) -> None:
        options, key = plan.options, api_key()
        address = parse_address(config.server, name=f"{WHERE}.server")
        self._root = address.root
        self._engine = ServerEngine(
            address=address,
            prompt=plan.prompt,
            decode=plan.decode,
            dialect=plan.dialect,
            model=options.server_model,
            reader=reader,
            pixels=plan.pixels,
            concurrency=options.concurrency,
            timeout_s=options.timeout_s,
            policy=RetryPolicy(retries=options.retries),
            key=key,
            notify=notify,
        )
        agree(ranks, self._connected())
        self._weights: ServerWeights | None = None
        if config.server_weights == "own":
            if ranks.rank == 0:
                notify(
                    f"training rollouts: {self._root} keeps the weights that it was started with, "
                    "so rollouts do not follow the training"
                )
            return
        self._weights = ServerWeights(
            address,
            reader,
            folder / ".rollout_weights",
            ranks,
            key=key,
            timeout_s=options.timeout_s,
            trainer=trainer,
        )
        self._weights.check()

    def _connected(self) -> ConfigError | None:
        try:
            if self._engine.connect(may_relax=True):
                return None
        except ConfigError as error:
            return error
        return ConfigError(f"{WHERE}.server: {self._root} does not answer; is the server up?")

    @property
    def decode(self) -> DecodeSettings:
        """As `LiveEngine.decode`: boxes may have gone unordered."""
        return self._engine.decode

    def answer(self, model: Any, requests: Sequence[Request]) -> list[Rollout]:
        """As `LiveEngine.answer`; processes wait until the server has the weights.

        Raises ConfigError where the server reads other prompts than the training, or does not say
        which tokens it wrote.
        """
        if self._weights is not None:
            self._weights.hand_over(model)
        rollouts = [rollout for batch in self._engine.generate(requests) for rollout in batch]
        complaint = self._engine.prompt_complaint
        if complaint is not None:
            raise ConfigError(f"{WHERE}.server: {complaint}")
        if any(not rollout.failed and rollout.token_ids is None for rollout in rollouts):
            raise ConfigError(
                f"{WHERE}.server: {self._root} does not give the token ids of what it writes, "
                "which training needs; vLLM 0.10 and later do"
            )
        return rollouts

    def close(self) -> None:
        """Take the written weights away; safe to call twice."""
        if self._weights is not None:
            self._weights.close()


__all__ = ["ServerRollouts"]
