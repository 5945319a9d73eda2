"""What travels between the run and the replicas on a Ray cluster, and how it is made light.

Ground truth stays at home: a replica does not need it, and a line gets it back on arrival.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.engines.base import Request
    from coordeval.records import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Requests that travel together, under a name of their own in the run."""

    name: str
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a replica has no engine: its error's text, and the class where a user can mend it."""

    text: str
    kind: str | None
    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a replica gives back for the block of this name.

    `rollouts` may lack requests: where `failure` says why, or where the block was not begun since
    it had been begun too often. `notes` are warnings of its engine.
    """

    block: str
    node: str
    node_id: str
    rollouts: Sequence[Rollout] = ()
    notes: Sequence[str] = ()
    failure: Failure | None = None
    given_up: bool = False


def pack(content: Any) -> bytes:
    """The bytes of a block or of an answer."""
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(raw: bytes) -> Any:
    """What `pack` packed; only ever read from the cluster that the run itself put to work."""
    return pickle.loads(raw)  # noqa: S301


def outward(request: Request) -> Request:
    """The request as it travels: without ground truth, its image by absolute path."""
    sample = request.sample
    path = None if sample.image_path is None else sample.image_path.absolute()
    return replace(request, sample=replace(sample, objects=(), metadata={}, image_path=path))


def homeward(rollout: Rollout, request: Request) -> Rollout:
    """The line of a request that has travelled: ground truth, and its image as it is named here."""
    rollout.gt = request.sample.objects
    path = request.sample.image_path
    if rollout.error is not None and path is not None:
        rollout.error = rollout.error.replace(str(path.absolute()), str(path))
    return rollout


__all__ = ["Answer", "Block", "Failure", "homeward", "outward", "pack", "unpack"]
