"""Runs side by side: the images that all of them hold, in one order, with the same ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordeval.errors import DataError, NotComparable
from coordeval.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.records import GroundTruthObject, Rollout

NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRun(Run):
    """A run that holds only some of its images, in a given order; all samples of each."""

    chosen: tuple[Rollout, ...]

    def rollouts(self) -> Iterator[Rollout]:
        """The chosen rollouts."""
        yield from self.chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Runs cut down to their common images, in the first run's order.

    `unpaired` lists, per run, ids that another run lacks. `other_truth` names common images
    whose ground truth differs from the first run's, per run. `reordered` says which runs had
    their lines in another order.
    """

    runs: tuple[PartialRun, ...]
    ids: tuple[str, ...]
    unpaired: tuple[tuple[str, ...], ...]
    other_truth: tuple[tuple[str, ...], ...]
    reordered: tuple[bool, ...]


def pair_runs(runs: Sequence[Run]) -> Pairing:
    """Read runs and keep the images that all hold (by sample id, sample_index 0).

    Raises DataError where a line cannot be read or an id stands twice, NotComparable where no
    id is common to all.
    """
    by_id = [_read(run) for run in runs]
    common = [key for key in by_id[0] if all(key in other for other in by_id[1:])]
    if not common:
        counts = ", ".join(
            f"{run.path} holds {len(held)}" for run, held in zip(runs, by_id, strict=True)
        )
        raise NotComparable(f"no sample id stands in all runs ({counts} ids); nothing to pair")
    kept = set(common)
    return Pairing(
        runs=tuple(
            PartialRun(
                path=run.path,
                rollouts_path=run.rollouts_path,
                meta=run.meta,
                chosen=tuple(rollout for key in common for rollout in held[key]),
            )
            for run, held in zip(runs, by_id, strict=True)
        ),
        ids=tuple(common),
        unpaired=tuple(tuple(key for key in held if key not in kept) for held in by_id),
        other_truth=tuple(
            tuple(key for key in common if _truth(held[key]) != _truth(by_id[0][key]))
            for held in by_id
        ),
        reordered=tuple([key for key in held if key in kept] != common for held in by_id),
    )


def with_meta(run: PartialRun, **changes: object) -> PartialRun:
    """The run with other values in its run.json."""
    return replace(run, meta=run.meta | changes)


def _read(run: Run) -> dict[str, list[Rollout]]:
    """Rollouts per sample id, the headline (sample_index 0) first; ids without one are left out."""
    out: dict[str, list[Rollout]] = {}
    for rollout in run.rollouts():
        others = out.setdefault(rollout.id, [])
        if any(other.sample_index == rollout.sample_index for other in others):
            raise DataError(
                f"{run.path}: id {rollout.id!r} (sample_index {rollout.sample_index}) stands twice "
                "in the run; keep one line for each"
            )
        others.append(rollout)
    for others in out.values():
        others.sort(key=lambda rollout: rollout.sample_index)
    return {key: others for key, others in out.items() if others[0].sample_index == 0}


def _truth(rollouts: list[Rollout]) -> tuple[object, ...]:
    """What makes two ground truths the same: size, objects in whatever order, judged classes."""
    first = rollouts[0]
    objects = sorted(_comparable(obj) for obj in first.gt)
    return first.width, first.height, tuple(objects), first.federated


def _comparable(obj: GroundTruthObject) -> tuple[object, ...]:
    # Rounded, so that a file that was written with six decimals is still the same ground truth.
    values = tuple(round(value, 4) for value in obj.values_px)
    area = -1.0 if obj.area is None else round(obj.area, 2)
    return obj.desc, obj.kind, values, obj.iscrowd, area


def shown_ids(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    rest = len(ids) - NAMED
    return ", ".join(repr(key) for key in ids[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


__all__ = ["Pairing", "PartialRun", "pair_runs", "shown_ids", "with_meta"]
