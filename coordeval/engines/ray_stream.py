"""One round on the cluster with Ray Data: blocks spread over actors, answers as they finish.

Facts that shape it (Ray 2.60): what a dead actor had under way is redone without end, so replicas
ask the desk whether they may begin a block once more. A block that is lost all the same is dropped
in silence, so `RayEngine` counts and asks again. One block in is one block out, so answers come as
soon as they are there; order is not kept.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from coordeval.engines.ray_desk import Desk
from coordeval.engines.ray_engine import StreamLost
from coordeval.engines.ray_head import HeadWatch
from coordeval.engines.ray_replica import Replica
from coordeval.engines.ray_wire import pack, unpack
from coordeval.engines.ray_words import quiet_data

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from coordeval.engines.parallel import WorkerSettings
    from coordeval.engines.ray_cluster import Cluster
    from coordeval.engines.ray_engine import Pace
    from coordeval.engines.ray_wire import Answer, Block

_CONTEXT = {
    "enable_progress_bars": False,
    "print_on_execution_start": False,
    "max_errored_blocks": -1,  # any number: what is missing is asked for again
    "wait_for_min_actors_s": -1,  # those that are there begin
}
_DESK_THREADS = 8
_NODE_LABEL = "ray.io/node-id"


class RayDataStream:
    """Rounds on one cluster: `need` is what a replica takes of a node, `replicas` how many run."""

    def __init__(
        self,
        cluster: Cluster,
        settings: WorkerSettings,
        *,
        hashes: tuple[str | None, str | None],
        need: Mapping[str, float],
        replicas: int,
    ) -> None:
        self._cluster, self._settings, self._hashes = cluster, settings, hashes
        self._need, self._replicas = need, replicas
        self._desk: Any = None
        self._answers: Generator[Answer] | None = None
        self._head = HeadWatch(cluster.head())

    def __call__(
        self, blocks: Sequence[Block], pace: Pace, avoid: frozenset[str]
    ) -> Iterator[Answer]:
        """As `Stream.__call__`; a round that was left early ends here. Raises HeadLost too."""
        if self._answers is not None:
            self._answers.close()
        self._answers = self._stream(blocks, pace, avoid)
        return self._answers

    def room(self) -> int:
        """As `Stream.room`; raises HeadLost."""
        with self._head.striking():
            return min(self._replicas, self._cluster.room(self._need))

    def close(self) -> None:
        """End what is under way, and leave the cluster."""
        self._head.close()
        if self._answers is not None:
            self._answers.close()
        if self._desk is not None:
            import ray

            ray.kill(self._desk)
            self._desk = None
        self._cluster.close()

    def _stream(
        self, blocks: Sequence[Block], pace: Pace, avoid: frozenset[str]
    ) -> Generator[Answer]:
        import ray

        with _data_context(), self._head.striking():
            answered = self._dataset(blocks, pace, avoid)
        tables = iter(answered.iter_batches(batch_size=None, batch_format="pyarrow"))
        with quiet_data(), closing(tables):
            while True:
                try:
                    with self._head.striking():
                        table = next(tables, None)
                except (ray.exceptions.RayError, RuntimeError, OSError) as error:
                    text = " ".join(str(error).split())[:300]
                    raise StreamLost(f"{type(error).__name__}: {text}") from None
                if table is None:
                    return
                for raw in table.column("answer").to_pylist():
                    yield unpack(raw)

    def _dataset(self, blocks: Sequence[Block], pace: Pace, avoid: frozenset[str]) -> Any:
        import ray

        items = [{"block": pack(block)} for block in blocks]
        return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Replica,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(self._replicas, len(items)),
                max_tasks_in_flight_per_actor=pace.held,
                max_concurrent_calls_per_actor=pace.at_once,
                enable_true_multi_threading=pace.at_once > 1,
            ),
            fn_constructor_kwargs={
                "settings": self._settings,
                "hashes": self._hashes,
                "desk": self._open_desk(),
                "shared": pace.at_once > 1,
            },
            num_cpus=self._need["CPU"],
            num_gpus=self._need.get("GPU"),
            label_selector=self._away_from(avoid),
        )

    def _away_from(self, avoid: frozenset[str]) -> dict[str, str] | None:
        """Keep replicas off these nodes; None (anywhere) where no other node has room."""
        others = [node for node in self._cluster.nodes() if node.id not in avoid]
        if not avoid or not any(node.room(self._need) for node in others):
            return None
        return {_NODE_LABEL: f"!in({','.join(sorted(avoid))})"}

    def _open_desk(self) -> Any:
        """The desk, beside this process; it outlives the rounds."""
        if self._desk is None:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            place = NodeAffinitySchedulingStrategy(self._cluster.here(), soft=False)
            desk = ray.remote(Desk).options(
                num_cpus=0,
                max_concurrency=_DESK_THREADS,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=place,
            )
            self._desk = desk.remote()
        return self._desk


@contextmanager
def _data_context() -> Iterator[None]:
    """Settings of Ray Data for a dataset that is made in the block; those of others stay."""
    import ray

    context = ray.data.DataContext.get_current()
    kept = {name: getattr(context, name) for name in _CONTEXT}
    try:
        for name, value in _CONTEXT.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(context, name, value)


__all__ = ["RayDataStream"]
