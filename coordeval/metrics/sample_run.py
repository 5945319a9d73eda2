"""Another sample of a run in the place of the headline, to look at it with the same tools."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordeval.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordeval.records import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOfRun(Run):
    """The rollouts of one sample_index, given out as sample_index 0; all others are left out."""

    sample_index: int

    def rollouts(self) -> Iterator[Rollout]:
        """That sample's rollouts in file order."""
        for rollout in Run.rollouts(self):
            if rollout.sample_index == self.sample_index:
                yield replace(rollout, sample_index=0)


def sample_of(run: Run, sample_index: int) -> SampleOfRun:
    """The run with another sample as its headline."""
    return SampleOfRun(
        path=run.path,
        rollouts_path=run.rollouts_path,
        meta=run.meta,
        sample_index=sample_index,
    )


def headline_index(run: Run) -> int:
    """The sample_index, in the run's files, of what the run gives out as sample_index 0."""
    return run.sample_index if isinstance(run, SampleOfRun) else 0


__all__ = ["SampleOfRun", "headline_index", "sample_of"]
