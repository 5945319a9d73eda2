"""The engine on a Ray cluster: rounds over what is missing, until every request has its line.

Ray hands back what it has; whatever is missing after a round (a worker that died too often, a node
that went away) is asked for again, in smaller blocks, a finite number of times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from coordeval.engines.base import error_rollout
from coordeval.engines.parallel import TRIES
from coordeval.engines.ray_wire import Block, homeward, outward
from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coordeval.coords import CoordVocabulary
    from coordeval.engines.base import Engine, Request
    from coordeval.engines.ray_wire import Answer, Failure
    from coordeval.records import Rollout

Key = tuple[str, int]
MENDABLE = {"CheckpointError": CheckpointError}


class StreamLost(Exception):  # noqa: N818 - an outcome of a round, which the next one mends
    """Ray ended a round before its end; its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How work is cut: requests per block, blocks that a replica answers at once and holds."""

    block: int
    at_once: int
    held: int

    def after(self, missing: int, replicas: int) -> Pace:
        """The pace of the next round: one by one where few are missing, else in smaller blocks."""
        if self.block == 1 or missing <= _FEW * replicas * self.block:
            return ALONE
        return replace(self, block=-(-self.block // 4))


ROUNDS = 3
ALONE = Pace(block=1, at_once=1, held=1)
"""Shows which single request kills its worker."""
_FEW = 4  # blocks per replica


class Stream(Protocol):
    """One round on the cluster."""

    def __call__(
        self, blocks: Sequence[Block], pace: Pace, avoid: frozenset[str]
    ) -> Iterator[Answer]:
        """Answers as they come, in any order; some may be missing, and some may come twice.

        `avoid` are ids of nodes that should get no work. Raises StreamLost.
        """
        ...

    def room(self) -> int:
        """How many replicas may run at this moment."""
        ...

    def close(self) -> None:
        """Give the cluster back."""
        ...


class RayEngine:
    """Asks a cluster for rollouts; every request gets exactly one line.

    `inner` is an engine that never decodes: it says what the replicas are. `about` goes into the
    run's environment, `versions` into its versions.
    """

    def __init__(
        self,
        inner: Engine,
        stream: Stream,
        *,
        pace: Pace,
        replicas: int,
        about: dict[str, Any],
        versions: dict[str, str],
        notify: Callable[[str], None],
    ) -> None:
        self._inner, self._stream, self._pace = inner, stream, pace
        self._replicas, self._about, self._versions = replicas, about, versions
        self._notify = notify
        self._rounds = 0
        self._told: set[str] = set()
        self._broken: set[str] = set()
        self._answered = False
        self._failure: Failure | None = None

    def describe(self) -> dict[str, Any]:
        """What the replicas are, as `Engine.describe`.

        The identity is theirs alone: a run goes on with another number of them, on another
        cluster, or on one machine.
        """
        described = self._inner.describe()
        return {
            "identity": described["identity"],
            "environment": described["environment"] | self._about,
            "versions": described["versions"] | self._versions,
        }

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens, as `Engine.vocabulary`."""
        return self._inner.vocabulary()

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield finished rollouts as blocks come back; every request exactly once.

        Raises ConfigError or CheckpointError where no replica could open its engine.
        """
        if not requests:
            return
        waiting = {request.key: request for request in requests}
        pace = self._pace
        reason = "no answer came back"
        for number in range(1, ROUNDS + 1):
            try:
                yield from self._round(waiting, pace)
                reason = "their workers died, or a node was lost"
            except StreamLost as lost:
                reason = f"Ray: {lost}"
            if self._failure is not None:
                if not self._answered:
                    raise _as_error(self._failure)
                reason = self._failure.text
            if not waiting:
                return
            if number < ROUNDS:
                pace = pace.after(len(waiting), self._replicas)
                self._notify(
                    f"{len(waiting)} requests came back without an answer ({reason}): asked again, "
                    f"round {number + 1} of {ROUNDS}"
                )
        message = f"no answer from the cluster in {ROUNDS} rounds: {reason}"
        yield [error_rollout(request, message) for request in waiting.values()]

    def _round(self, waiting: dict[Key, Request], pace: Pace) -> Iterator[list[Rollout]]:
        """One round over what is waiting; takes out what is answered."""
        self._rounds += 1
        self._failure = None
        blocks = cut_into_blocks(
            list(waiting.values()), pace.block, self._replicas, name=f"round {self._rounds}"
        )
        alone = {block.name: block.requests[0] for block in blocks if len(block.requests) == 1}
        failed: set[str] = set()
        for answer in self._stream(blocks, pace, frozenset(self._broken)):
            self._tell(answer)
            rollouts = list(answer.rollouts)
            if answer.given_up and pace == ALONE:
                message = f"its worker died {TRIES} times over it alone"
                rollouts = [error_rollout(alone[answer.block], message)]
            fresh: list[Rollout] = []
            for rollout in rollouts:  # one that was redone may come twice
                request = waiting.pop((rollout.id, rollout.sample_index), None)
                if request is not None:
                    fresh.append(homeward(rollout, request))
            if answer.failure is not None:
                self._failure = answer.failure
                self._broken.add(answer.node_id)
                failed.add(answer.failure.replica)
                if len(failed) >= min(self._replicas, len(blocks), max(1, self._stream.room())):
                    return  # none is left that could answer
            elif fresh:
                failed.clear()
                self._answered = True
                yield fresh

    def _tell(self, answer: Answer) -> None:
        """Pass warnings on, each text once per node."""
        notes = list(answer.notes)
        if answer.failure is not None:
            notes.append(f"has no engine: {answer.failure.text}")
        for note in notes:
            message = f"node {answer.node}: {note}"
            if message not in self._told:
                self._told.add(message)
                self._notify(message)

    def close(self) -> None:
        """Give the cluster back."""
        self._stream.close()
        self._inner.close()


def cut_into_blocks(
    requests: Sequence[Request], size: int, replicas: int, *, name: str
) -> list[Block]:
    """The requests as they travel, in order, at most `size` together, and work for every replica.

    Blocks are named after `name`. Empty without requests.
    """
    share = max(1, min(size, -(-len(requests) // replicas)))
    return [
        Block(
            name=f"{name}, block {start // share}",
            requests=[outward(request) for request in requests[start : start + share]],
        )
        for start in range(0, len(requests), share)
    ]


def _as_error(failure: Failure) -> Exception:
    """The fault that kept all replicas from opening their engines."""
    return MENDABLE.get(failure.kind or "", ConfigError)(
        f"no replica has an engine: {failure.text}"
    )


__all__ = ["ALONE", "ROUNDS", "Pace", "RayEngine", "Stream", "StreamLost", "cut_into_blocks"]
