"""Targets for rollouts, and what is done about one that is too long to train on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordeval.training.stage2.target_counts import TargetCounts
from coordeval.training.stage2.targets import build_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.records import Rollout, Sample
    from coordeval.training.stage2.targets import BuiltTarget, TargetContext

OVER_LENGTH = "over_length"
COUNTED = (*TargetCounts().by_name(), OVER_LENGTH)
"""What `TargetMaker.make` counts, in one order."""


class TargetMaker:
    """Makes targets of one training; `order_seed` gives the seed of object order in this epoch.

    A target that does not fit gives way to all ground truth from an empty start, as that of a
    rollout that failed: it is no longer than the sample's own answer, which the data's checks let
    pass. Nothing is ever cut through.
    """

    def __init__(
        self, context: TargetContext, *, order_seed: Callable[[], int] = lambda: 0
    ) -> None:
        self._context, self._order_seed = context, order_seed
        self.begin()

    def begin(self) -> None:
        """Take the order of the present epoch."""
        self._context = replace(self._context, seed=self._order_seed())

    def make(
        self, rollout: Rollout, sample: Sample, *, room: int
    ) -> tuple[BuiltTarget, dict[str, int]]:
        """The target of one rollout, of at most `room` tokens, and what became of the rollout.

        The counts are those of `TargetCounts` and `over_length`, 1 where the target that they tell
        of was too long.
        """
        target = build_target(rollout, sample, self._context)
        counts = target.counts.by_name() | {OVER_LENGTH: 0}
        if len(target.token_ids) > room:
            counts[OVER_LENGTH] = 1
            unread = replace(rollout, text="", token_ids=None, error="too long to train on")
            target = build_target(unread, sample, self._context)
        return target, counts


__all__ = ["COUNTED", "OVER_LENGTH", "TargetMaker"]
