"""The actor that holds one engine on a Ray cluster and answers blocks of requests.

Ray makes it, kills it and makes it anew as nodes come and go; nothing in it raises.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from coordeval.engines.base import error_rollout
from coordeval.engines.parallel import open_engine
from coordeval.engines.ray_desk import RayDesk
from coordeval.engines.ray_images import images_at_hand
from coordeval.engines.ray_shared import SharedEngine
from coordeval.engines.ray_wire import Answer, Failure, pack, unpack
from coordeval.errors import CheckpointError, CoordevalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.engines.base import Engine, Request
    from coordeval.engines.parallel import WorkerSettings
    from coordeval.engines.ray_wire import Block
    from coordeval.records import Rollout

PAUSE_S = 3.0  # before a replica without engine answers, so that sound ones get the work


class Replica:
    """Answers blocks; its engine is opened with the first one, not when the actor is made.

    So an engine that kills its process uses up the tries of a block, and the actor is not made
    anew for ever. `hashes` are those of checkpoint and adapter where the run was started. With
    `shared`, several threads ask the engine at once.
    """

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        hashes: tuple[str | None, str | None],
        desk: Any,
        shared: bool,
    ) -> None:
        import ray

        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve one another
        context = ray.get_runtime_context()
        self._name, self._node_id = context.get_actor_id() or "", context.get_node_id()
        self._node = ray.util.get_node_ip_address()
        self._settings, self._hashes, self._is_shared = settings, hashes, shared
        self._desk = RayDesk(desk)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._shared: SharedEngine | None = None
        self._notes: list[str] = []

    def __call__(self, table: Any) -> Any:
        """One answer per block of the table's column `block`, as Ray Data asks for it."""
        import pyarrow as pa

        blocks = table.column("block").to_pylist()
        answers = [pack(self.answer(unpack(block))) for block in blocks]
        return pa.table({"answer": pa.array(answers, pa.large_binary())})

    def answer(self, block: Block) -> Answer:
        """Rollouts of the requests, error lines among them; a failure where there is no engine."""
        failure: Failure | None = None
        rollouts: list[Rollout] = []
        given_up = False
        try:
            given_up = not self._desk.begin(block.name)
            if not given_up:
                self._open()
                rollouts = self._roll_out(block.requests)
        except Exception as error:  # noqa: BLE001 - no engine, or no way to the images: told home
            failure = self._failure(error)
        if failure is not None:
            time.sleep(PAUSE_S)
        with self._lock:
            notes, self._notes = self._notes, []
        return Answer(
            block=block.name,
            node=self._node,
            node_id=self._node_id,
            rollouts=rollouts,
            notes=notes,
            failure=failure,
            given_up=given_up,
        )

    def _failure(self, error: BaseException) -> Failure:
        mendable = isinstance(error, CoordevalError)
        text = " ".join(str(error).split())
        return Failure(
            text=text if mendable else f"{type(error).__name__}: {text}",
            kind=type(error).__name__ if mendable else None,
            replica=self._name,
        )

    def _open(self) -> None:
        with self._lock:
            if self._engine is not None:
                return
            source, engine = open_engine(self._settings, self._note)
            self._check(source.checkpoint, self._hashes[0])
            self._check(source.adapter, self._hashes[1])
            if self._is_shared:
                self._shared = SharedEngine(engine)  # type: ignore[arg-type]
            self._engine = engine

    def _note(self, message: str) -> None:
        self._notes.append(message)

    @staticmethod
    def _check(part: dict[str, Any] | None, expected: str | None) -> None:
        """Refuse other weights under the same path: their texts would be taken for the run's."""
        found = None if part is None else part["hash"]
        if found != expected:
            path = None if part is None else part["path"]
            raise CheckpointError(
                f"{path}: not the same files as where the run was started (hash {found}, there "
                f"{expected}): copy the folder to every node, or use a shared file system"
            )

    def _roll_out(self, requests: Sequence[Request]) -> list[Rollout]:
        with images_at_hand(requests, self._desk) as (ready, failed, origins):
            rollouts = failed + self._decode(ready)
        for rollout in rollouts:
            for copy, origin in origins.items():
                if rollout.error is not None:
                    rollout.error = rollout.error.replace(copy, origin)
        return rollouts

    def _decode(self, requests: Sequence[Request]) -> list[Rollout]:
        """Decode; where that raises, each request alone, so that one costs only itself."""
        try:
            return self._ask(requests)
        except CoordevalError:  # weights are read with the first request: there is no engine
            raise
        except Exception as error:  # noqa: BLE001 - the fence of a rollout: lines, no loss
            if len(requests) == 1:
                message = f"decoding failed: {type(error).__name__}: {error}"
                return [error_rollout(requests[0], message)]
            return [rollout for request in requests for rollout in self._decode([request])]

    def _ask(self, requests: Sequence[Request]) -> list[Rollout]:
        assert self._engine is not None
        if self._shared is not None:
            return self._shared.answer(requests)
        return _flat(self._engine.generate(requests))


def _flat(batches: Iterable[Sequence[Rollout]]) -> list[Rollout]:
    return [rollout for batch in batches for rollout in batch]


__all__ = ["PAUSE_S", "Replica"]
