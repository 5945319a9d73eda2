"""The processes of a training as far as an evaluation needs them: shares, gathering, agreement.

Everything is sent through a gloo group of its own: it needs no GPU, and its limit is long enough
for one process to roll out while the others wait.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from coordeval.engines.base import error_rollout
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coordeval.coords import CoordVocabulary
    from coordeval.engines.base import Engine, Request
    from coordeval.records import Rollout

LONGEST_WAIT = timedelta(hours=24)
BATCHES_PER_ROUND = 4  # of each process; what was written in a round is on the disk after it


class Ranks(Protocol):
    """The processes that take part; `rank` 0 is the main one."""

    rank: int
    world: int

    def broadcast(self, value: Any) -> Any:
        """What process 0 has, everywhere."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """What each process has, by rank, everywhere."""
        ...


class Alone:
    """One process: nothing is sent."""

    rank, world = 0, 1

    def broadcast(self, value: Any) -> Any:
        """The value itself."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]


class Group:
    """All processes of the default group; made on all of them at once."""

    def __init__(self) -> None:
        from torch import distributed

        self._distributed = distributed
        self._group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        self.rank = distributed.get_rank()
        self.world = distributed.get_world_size()

    def broadcast(self, value: Any) -> Any:
        """What process 0 has, everywhere."""
        held = [value]
        self._distributed.broadcast_object_list(held, src=0, group=self._group)
        return held[0]

    def gather(self, value: Any) -> list[Any]:
        """What each process has, by rank, everywhere."""
        held: list[Any] = [None] * self.world
        self._distributed.all_gather_object(held, value, group=self._group)
        return held


def all_ranks() -> Ranks:
    """The processes of this training; must be called on all of them."""
    from torch import distributed

    started = distributed.is_available() and distributed.is_initialized()
    return Group() if started and distributed.get_world_size() > 1 else Alone()


def agree(ranks: Ranks, error: Exception | None) -> None:
    """Raise on all processes what any of them found wrong; its own error where it has one."""
    found = ranks.gather(None if error is None else str(error))
    if error is not None:
        raise error
    others = [f"process {rank}: {text}" for rank, text in enumerate(found) if text is not None]
    if others:
        raise ConfigError(others[0])


class SplitEngine:
    """Process 0's view of all engines: deals requests out, and yields all answers in order.

    The others run `follow` meanwhile. Where the engine of a process fails, the requests that it
    owed become error lines and `notify` hears of it; nobody waits for it.
    """

    def __init__(
        self, engine: Engine, ranks: Ranks, *, batch_size: int, notify: Callable[[str], None]
    ) -> None:
        self._engine, self._ranks, self._notify = engine, ranks, notify
        self._round = batch_size * BATCHES_PER_ROUND * ranks.world
        self._closed = False

    def describe(self) -> dict[str, Any]:
        """As the engine of this process, with the number of processes."""
        described = self._engine.describe()
        described["environment"] |= {"processes": self._ranks.world}
        return described

    def vocabulary(self) -> CoordVocabulary | None:
        """As the engine of this process."""
        return self._engine.vocabulary()

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield a round at a time, each in the order of the requests."""
        for start in range(0, len(requests), self._round):
            dealt = self._ranks.broadcast(list(requests[start : start + self._round]))
            answered = self._ranks.gather(answer_share(self._engine, dealt, self._ranks))
            yield self._in_order(dealt, answered)

    def _in_order(
        self, dealt: Sequence[Request], answered: Sequence[tuple[list[Rollout], str | None]]
    ) -> list[Rollout]:
        by_key = {
            (rollout.id, rollout.sample_index): rollout
            for rollouts, _ in answered
            for rollout in rollouts
        }
        for rank, (_, failure) in enumerate(answered):
            if failure is not None:
                self._notify(f"process {rank} failed in its share of an evaluation: {failure}")
        out = []
        for index, request in enumerate(dealt):
            failure = answered[index % self._ranks.world][1]
            rollout = by_key.get(request.key)
            out.append(rollout or error_rollout(request, f"the process failed: {failure}"))
        return out

    def close(self) -> None:
        """Let the others go, and close this process's engine; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._ranks.broadcast(None)
            self._engine.close()


class BrokenEngine:
    """In place of an engine that could not be made: whoever asks it hears why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Raise RuntimeError with the reason."""
        del requests
        raise RuntimeError(self._reason)

    def close(self) -> None:
        """Nothing to close."""


def follow(engine: Engine | BrokenEngine, ranks: Ranks) -> None:
    """What processes beyond the first do while process 0 rolls out with a `SplitEngine`."""
    while (dealt := ranks.broadcast(None)) is not None:
        ranks.gather(answer_share(engine, dealt, ranks))
    engine.close()


def answer_share(
    engine: Engine | BrokenEngine, dealt: Sequence[Request], ranks: Ranks
) -> tuple[list[Rollout], str | None]:
    """Rollouts of this process (every n-th request), and what went wrong, if anything did."""
    rollouts: list[Rollout] = []
    try:
        for batch in engine.generate(dealt[ranks.rank :: ranks.world]):
            rollouts += batch
    except Exception as error:  # noqa: BLE001 - told to process 0; an exception would hang the rest
        return rollouts, f"{type(error).__name__}: {error}"
    return rollouts, None


__all__ = [
    "Alone",
    "BrokenEngine",
    "Group",
    "Ranks",
    "SplitEngine",
    "agree",
    "all_ranks",
    "answer_share",
    "follow",
]
