"""The desk: an actor beside the run that replicas ask for images, and for leave to begin.

A block that kills its worker would be begun for ever (Ray redoes what a dead actor had under way).
So each begin is counted here, where no replica's death can undo the count.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from coordeval.engines.parallel import TRIES
from coordeval.engines.ray_images import FileState, file_state, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence


class Desk:
    """What stands beside the run: its files, and how often each block was begun."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, block: str) -> bool:
        """Whether a block may be begun; False once it has been begun as often as it may."""
        self._begun[block] += 1
        return self._begun[block] <= TRIES

    def states(self, paths: Sequence[str]) -> list[FileState | None]:
        """State of each file; None where there is none."""
        return [file_state(path) for path in paths]

    def read(self, paths: Sequence[str]) -> list[bytes | str]:
        """Content of each file; a string says why it cannot be read."""
        return [read_file(path) for path in paths]


class RayDesk:
    """The desk, asked through Ray by a replica; `handle` is the actor's."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def begin(self, block: str) -> bool:
        """As `Desk.begin`."""
        return bool(self._ask("begin", block))

    def states(self, paths: Sequence[str]) -> list[FileState | None]:
        """As `Desk.states`."""
        found: list[FileState | None] = self._ask("states", list(paths))
        return found

    def read(self, paths: Sequence[str]) -> list[bytes | str]:
        """As `Desk.read`."""
        content: list[bytes | str] = self._ask("read", list(paths))
        return content

    def _ask(self, method: str, question: Any) -> Any:
        import ray

        return ray.get(getattr(self._handle, method).remote(question))


__all__ = ["Desk", "RayDesk"]
