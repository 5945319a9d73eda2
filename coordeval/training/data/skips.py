"""Images that cannot be read in the middle of a training: left out, counted, and limited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 3


class Skipped(NamedTuple):
    """A sample that was left out of its batch: its id, and why in one line."""

    id: str
    reason: str


class SkipLedger:
    """Counts what batches left out, over all epochs; more than `limit` different samples stop.

    One ledger belongs to one process. A sample that fails again in a later epoch is counted again
    in `total`, but not against the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reasons: dict[str, str] = {}
        self.total = 0

    @property
    def ids(self) -> list[str]:
        """Ids of the samples that were left out at least once, in the order of the first time."""
        return list(self._reasons)

    def add(self, batch: Mapping[str, Any]) -> list[Skipped]:
        """Take in one batch of the collator and return what it left out.

        Raises DataError, with the limit and the first reasons, where the limit is passed.
        """
        skipped: list[Skipped] = list(batch.get("skipped", ()))
        for item in skipped:
            self.total += 1
            self._reasons.setdefault(item.id, item.reason)
        if len(self._reasons) > self._limit:
            first = "; ".join(f"{i!r}: {why}" for i, why in [*self._reasons.items()][:_SHOWN])
            raise DataError(
                f"{len(self._reasons)} samples could not be read while training, more than "
                f"data.max_unreadable ({self._limit}) allows; first {first}"
            )
        return skipped


__all__ = ["SkipLedger", "Skipped"]
