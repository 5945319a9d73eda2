"""Runs side by side: the images that all of them hold, in one order, with the same ground truth."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.errors import DataError, NotComparable
from coordeval.metrics.truth_digest import truth_digest
from coordeval.rollout_places import line_places, rollouts_at
from coordeval.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.records import Rollout

NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRun(Run):
    """A run that holds only some of its images; all samples of each.

    `chosen` are its rollouts, in their order. Where it is None they are read from `source` each
    time that they are asked for: those of the lines that start at `places`, in that order, else
    those of `ids`, in the order of the lines.
    """

    chosen: tuple[Rollout, ...] | None = None
    source: Run | None = None
    places: array[int] | None = None
    ids: frozenset[str] = frozenset()

    def rollouts(self) -> Iterator[Rollout]:
        """The chosen rollouts."""
        if self.chosen is not None:
            yield from self.chosen
        elif self.source is None:
            return
        elif self.places is not None:
            yield from rollouts_at(self.rollouts_path, self.source.frame, self.places)
        else:
            yield from (one for one in self.source.rollouts() if one.id in self.ids)


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
    read = [_read(run) for run in runs]
    by_id = [truths for truths, _ in read]
    common = [key for key in by_id[0] if all(key in other for other in by_id[1:])]
    if not common:
        counts = ", ".join(
            f"{run.path} holds {len(held)}" for run, held in zip(runs, by_id, strict=True)
        )
        raise NotComparable(f"no sample id stands in all runs ({counts} ids); nothing to pair")
    kept = frozenset(common)
    as_wanted = [[key for key in order if key in kept] == common for _, order in read]
    return Pairing(
        runs=tuple(
            PartialRun(
                path=run.path,
                rollouts_path=run.rollouts_path,
                meta=run.meta,
                source=run,
                places=None if is_so else _in_order(run, common),
                ids=kept,
            )
            for run, is_so in zip(runs, as_wanted, strict=True)
        ),
        ids=tuple(common),
        unpaired=tuple(tuple(key for key in held if key not in kept) for held in by_id),
        other_truth=tuple(
            tuple(key for key in common if held[key] != by_id[0][key]) for held in by_id
        ),
        reordered=tuple([key for key in held if key in kept] != common for held in by_id),
    )


def said_of_other_truth(pairing: Pairing) -> tuple[str, ...]:
    """One sentence for each run whose common images have another ground truth than the first's."""
    return tuple(
        f"{run.path} has another ground truth than {pairing.runs[0].path} on {len(ids)} of "
        f"{len(pairing.ids)} common images ({shown_ids(ids)})"
        for run, ids in zip(pairing.runs, pairing.other_truth, strict=True)
        if ids
    )


def _read(run: Run) -> tuple[dict[str, bytes], list[str]]:
    """A digest of the ground truth per sample id, for ids that have a headline (sample_index 0).

    In the order in which the ids come; then the ids in the order in which their headlines do.
    """
    truths: dict[str, bytes | None] = {}
    headlines: list[str] = []
    seen: set[tuple[str, int]] = set()
    for rollout in run.rollouts():
        key = rollout.id, rollout.sample_index
        if key in seen:
            raise DataError(
                f"{run.path}: id {rollout.id!r} (sample_index {rollout.sample_index}) stands twice "
                "in the run; keep one line for each"
            )
        seen.add(key)
        truths.setdefault(rollout.id, None)
        if rollout.sample_index == 0:
            truths[rollout.id] = truth_digest(rollout)
            headlines.append(rollout.id)
    return {key: truth for key, truth in truths.items() if truth is not None}, headlines


def _in_order(run: Run, ids: Sequence[str]) -> array[int]:
    """Where in its file each rollout of these ids stands, in the order of the ids."""
    place = {key: row for row, key in enumerate(ids)}
    starts = line_places(run.rollouts_path)
    wanted = sorted(
        (place[rollout.id], rollout.sample_index, start)
        for rollout, start in zip(run.rollouts(), starts, strict=False)  # the last may be torn
        if rollout.id in place
    )
    return array("q", (start for _, _, start in wanted))


def shown_ids(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    rest = len(ids) - NAMED
    return ", ".join(repr(key) for key in ids[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


__all__ = [
    "Pairing",
    "PartialRun",
    "pair_runs",
    "said_of_other_truth",
    "shown_ids",
]
