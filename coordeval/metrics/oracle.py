"""What several samples of an image find beside the headline: recoverable and systematic misses.

An image takes part where its headline and at least one other sample came without an engine error.
Other samples with an engine error are no trials. Every sample is matched by itself, exactly as the
headline is; a ground truth that the headline misses is recoverable where at least one other sample
finds it, else systematic. Size and ground truth are the headline's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.judging import judge_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.protocols import Protocol
    from coordeval.metrics.result import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSide:
    """One way of matching at every threshold (T); all zero on images that take no part.

    `found_in` (T, ground truth): in how many other samples an object is found; `missed`
    (T, ground truth): the headline misses it. `headline`, `samples` (summed over the other
    samples) and `best` (T, 3, images) are right, wrong and missed counts; `best` are those of the
    sample, the headline included, with the highest F1 of the image at this threshold (ties: fewer
    errors, then the lower sample_index).
    """

    found_in: NDArray[np.int64]
    missed: NDArray[np.bool_]
    headline: NDArray[np.int64]
    samples: NDArray[np.int64]
    best: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Other samples against the headline, class-aware and class-agnostic.

    `trials` (images) counts the other samples that an image has; 0 where it takes no part.
    `failed` (images) counts other samples with an engine error.
    """

    thresholds: tuple[float, ...]
    trials: NDArray[np.int64]
    failed: NDArray[np.int64]
    aware: OracleSide
    agnostic: OracleSide


def find_oracle(columns: Columns, scored: Scored, protocol: Protocol) -> Oracle | None:
    """Match every other sample and hold it against the headline; None without other samples.

    `scored` is the headline's matching under the same protocol.
    """
    if not columns.others:
        return None
    trials = np.stack([sample.done for sample in columns.others]).sum(axis=0, dtype=np.int64)
    trials = np.where(columns.alive, trials, 0)
    counted = np.ones(len(columns.gt), dtype=bool)
    if protocol.crowd == "ignore":
        counted = ~columns.gt.crowd
    sides = [
        _Side(columns, matched, trials > 0, counted) for matched in (scored.aware, scored.agnostic)
    ]
    for sample in columns.others:
        for side, matched in zip(sides, judge_sample(columns, protocol, sample), strict=True):
            side.add(matched, sample.done & (trials > 0))
    failed = np.stack([sample.failed for sample in columns.others]).sum(axis=0, dtype=np.int64)
    return Oracle(
        thresholds=protocol.iou_thresholds,
        trials=trials,
        failed=failed,
        aware=sides[0].result(),
        agnostic=sides[1].result(),
    )


class _Side:
    """Gathers one way of matching over the samples."""

    def __init__(
        self,
        columns: Columns,
        headline: Matched,
        taking_part: NDArray[np.bool_],
        counted: NDArray[np.bool_],
    ) -> None:
        num_thresholds, num_gt = len(headline.thresholds), len(columns.gt)
        self._wanted = counted & taking_part[columns.gt.shapes.image]
        self._missed = np.tile(self._wanted, (num_thresholds, 1))
        for row, partner in enumerate(headline.partner):
            self._missed[row, partner[partner >= 0]] = False
        self._headline = _counts(headline) * taking_part
        self._samples = np.zeros_like(self._headline)
        self._best = self._headline.copy()
        self._found_in = np.zeros((num_thresholds, num_gt), dtype=np.int64)

    def add(self, matched: Matched, done: NDArray[np.bool_]) -> None:
        counts = _counts(matched) * done
        self._samples += counts
        self._best = np.where((_is_better(counts, self._best) & done)[:, None], counts, self._best)
        for row, partner in enumerate(matched.partner):
            self._found_in[row, partner[partner >= 0]] += 1

    def result(self) -> OracleSide:
        return OracleSide(
            found_in=self._found_in * self._wanted,
            missed=self._missed,
            headline=self._headline,
            samples=self._samples,
            best=self._best,
        )


def _counts(matched: Matched) -> NDArray[np.int64]:
    """Right, wrong, missed: (T, 3, images)."""
    return np.stack([matched.tp, matched.fp, matched.fn], axis=1).astype(np.int64)


def _is_better(new: NDArray[np.int64], old: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Per threshold and image: a higher F1, or the same with fewer errors."""
    new_f1, old_f1 = _image_f1(new), _image_f1(old)
    fewer = new[:, 1] + new[:, 2] < old[:, 1] + old[:, 2]
    return np.asarray((new_f1 > old_f1) | ((new_f1 == old_f1) & fewer), dtype=np.bool_)


def _image_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 (T, images); nothing there and nothing written is as good as it gets."""
    right = 2.0 * counts[:, 0]
    below = right + counts[:, 1] + counts[:, 2]
    out = np.ones_like(below)
    np.divide(right, below, out=out, where=below > 0)
    return out


__all__ = ["Oracle", "OracleSide", "find_oracle"]
