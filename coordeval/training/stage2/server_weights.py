"""How a server gets the weights of a step: from a folder that it is told to read.

A vLLM server that runs with VLLM_SERVER_DEV_MODE=1 takes calls into its workers, among them
`reload_weights` from a path, and drops its caches on request. Such a server must not be open to
strangers: whoever reaches it can make it read any folder.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from coordeval.engines.server_failures import RequestRefused, ServerFailure
from coordeval.engines.server_http import ServerHttp, dump_body
from coordeval.engines.server_thread import run_to_end
from coordeval.errors import ConfigError, CoordevalError
from coordeval.training.rollout_eval.live_checkpoint import save_live
from coordeval.training.rollout_eval.live_model import undisturbed
from coordeval.training.rollout_eval.ranks import agree
from coordeval.training.stage2.rollout_plan import WHERE

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.server_address import ServerAddress
    from coordeval.training.rollout_eval.ranks import Ranks

CACHES = ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache")
NO_ANSWER_TO_KEEP = 1 << 20
_HOW = (
    "start a vLLM server of your own with VLLM_SERVER_DEV_MODE=1 (reachable by you alone), or set "
    f"{WHERE}.server_weights: own to roll out with the weights that it was started with"
)


class ServerWeights:
    """Writes the weights into `folder` and has the server read them; by process 0 alone.

    `trainer` gathers weights that are sharded. `timeout_s` bounds each call.
    """

    def __init__(
        self,
        address: ServerAddress,
        reader: Reader,
        folder: Path,
        ranks: Ranks,
        *,
        key: str | None,
        timeout_s: float,
        trainer: Any,
    ) -> None:
        self._address, self._reader, self._folder = address, reader, folder
        self._ranks, self._trainer = ranks, trainer
        self._key, self._timeout_s = key, timeout_s

    def check(self) -> None:
        """Refuse a server that takes no such calls; on every process, raising on all of them."""
        self._led(self._check)

    def hand_over(self, model: Any) -> None:
        """Let the server have the weights of now; on every process, raising on all of them.

        Raises ConfigError where the server does not read them: the rollouts would be of others.
        """
        with undisturbed(model):
            main = self._ranks.rank == 0
            error: Exception | None = None
            try:
                save_live(model, self._reader, self._folder, trainer=self._trainer, main=main)
            except OSError as failure:
                reason = failure.strerror or failure
                error = ConfigError(f"{self._folder}: cannot be written: {reason}")
            agree(self._ranks, error)
        self._led(self._reload)

    def close(self) -> None:
        """Take the folder away; safe to call twice."""
        if self._ranks.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _led(self, act: Any) -> None:
        error: Exception | None = None
        if self._ranks.rank == 0:
            try:
                act()
            except CoordevalError as failure:
                error = failure
        agree(self._ranks, error)

    def _check(self) -> None:
        try:
            run_to_end(self._tell((CACHES[0], {})))
        except RequestRefused as refusal:
            raise ConfigError(
                f"{self._address.root}: the server cannot be given weights ({refusal}): {_HOW}"
            ) from None
        except ServerFailure as failure:
            raise ConfigError(f"{self._address.root}: {failure}; is the server up?") from None

    def _reload(self) -> None:
        path = str(self._folder.resolve())
        body = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        calls = [("collective_rpc", body), *((name, {}) for name in CACHES)]
        try:
            run_to_end(self._tell(*calls))
        except ServerFailure as failure:
            raise ConfigError(
                f"{self._address.root}: the server did not read the weights in {path} "
                f"({failure}); it must see that folder under that path"
            ) from None

    async def _tell(self, *calls: tuple[str, dict[str, Any]]) -> None:
        async with ServerHttp(
            self._address,
            key=self._key,
            connections=1,
            timeout_s=self._timeout_s,
            max_bytes=NO_ANSWER_TO_KEEP,
        ) as http:
            for name, body in calls:
                await http.tell(f"{self._address.root}/{name}", dump_body(body))


__all__ = ["CACHES", "ServerWeights"]
