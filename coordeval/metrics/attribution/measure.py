"""Scores of a state: F1 at .50, mean F1 and AP, matched and judged anew at every threshold.

Two views on the same predictions, because F1 and AP match differently: F1 pairs optimally and
knows no scores; AP takes predictions by falling score, at most 100 per image and class. Unfixed,
both equal `f1/0.50/f1`, `f1/mean/f1` and `coco/AP`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from coordeval.metrics.attribution.average_precision import (
    average_precisions,
    match_by_score,
    rank_by_score,
    within_limit,
)
from coordeval.metrics.attribution.labels import (
    ASIDE,
    NONE,
    RIGHT,
    Labels,
    label_all,
)
from coordeval.metrics.attribution.overlap import coco_view, f1_view
from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.f1 import f1_value
from coordeval.metrics.matching import match_optimal
from coordeval.metrics.protocols import COCO_THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from coordeval.metrics.attribution.candidates import Candidates
    from coordeval.metrics.attribution.overlap import View
    from coordeval.metrics.attribution.state import State

SCORE_KEYS = ("f1/0.50/f1", "f1/mean/f1", "coco/AP")
_HALF = COCO_THRESHOLDS.index(0.5)
SETS_KEPT = 3
Scores = dict[str, "float | None"]
Found = TypeVar("Found")


class Measure:
    """Scores states of one run's candidates.

    Verdicts are kept for the sets of present predictions that were asked for last: the run as it
    is, where the walk down the table stands, and one more.
    """

    def __init__(self, candidates: Candidates) -> None:
        self.candidates = candidates
        self._f1 = f1_view(candidates)
        self.coco = coco_view(candidates)
        self._ordinary = ~candidates.columns.gt.crowd
        self._f1_labels: _Recent[list[Labels]] = _Recent(self._judge_f1)
        self._ap_labels: _Recent[tuple[list[Labels], NDArray[np.int64]]] = _Recent(self._judge_ap)
        self._scores: dict[object, Scores] = {}

    def scores(self, state: State) -> Scores:
        """F1 at .50, mean F1 and AP of a state; None where it has none.

        A fixed state in which nothing is to find and nothing is predicted has an F1 of 1.0.
        """
        key = (_digest(state.present), state.labels, state.misses, state.is_fixed)
        if key not in self._scores:
            self._scores[key] = self._measured(state)
        return self._scores[key]

    def _measured(self, state: State) -> Scores:
        f1 = [self._f1_at(labels, state) for labels in self.f1_labels(state.present)]
        cells = np.concatenate(self._ap_cells(state))
        return {
            "f1/0.50/f1": f1[_HALF],
            "f1/mean/f1": _mean(f1),
            "coco/AP": float(cells.mean()) if len(cells) else None,
        }

    def f1_labels(self, present: NDArray[np.bool_]) -> list[Labels]:
        """Verdicts at .50:.95 as F1 matches."""
        return self._f1_labels.of(present)

    def ap_labels(self, present: NDArray[np.bool_]) -> tuple[list[Labels], NDArray[np.int64]]:
        """Verdicts at .50:.95 as AP matches, and the predictions (rows) by falling score."""
        return self._ap_labels.of(present)

    def _judge_f1(self, present: NDArray[np.bool_]) -> list[Labels]:
        pred, num_gt = self.candidates.pred, len(self._ordinary)
        edges = self._f1.edges.where(self._f1.same_class & present[self._f1.edges.pred])
        standing = np.arange(len(pred))
        out = []
        for threshold in COCO_THRESHOLDS:
            partner = match_optimal(edges.where(edges.value >= threshold), len(pred), num_gt)
            on_crowd = (partner == NONE) & (self._f1.crowd >= threshold)
            out.append(self._label(self._f1, threshold, partner, ~present | on_crowd, standing))
        return out

    def _judge_ap(self, present: NDArray[np.bool_]) -> tuple[list[Labels], NDArray[np.int64]]:
        pred, view = self.candidates.pred, self.coco
        rank = rank_by_score(self.candidates.scores(present))
        known = pred.class_code != UNKNOWN_CLASS
        counted = within_limit(pred.shapes.image, pred.class_code, rank, present & known)
        edges = view.edges.where(view.same_class & counted[view.edges.pred])
        edges = edges.where(edges.value >= COCO_THRESHOLDS[0])
        partners = match_by_score(edges, rank, len(self._ordinary), COCO_THRESHOLDS)
        # Names outside the universe never reach a COCO engine, but they can be mended.
        judged = counted | (present & ~known)
        out = []
        for threshold, partner in zip(COCO_THRESHOLDS, partners, strict=True):
            on_crowd = (partner == NONE) & (view.crowd >= threshold)
            out.append(self._label(view, threshold, partner, ~judged | on_crowd, rank))
        return out, np.argsort(rank)

    def _label(
        self,
        view: View,
        threshold: float,
        partner: NDArray[np.int64],
        aside: NDArray[np.bool_],
        standing: NDArray[np.int64],
    ) -> Labels:
        return label_all(
            threshold,
            near=view.near,
            partner=partner,
            aside=aside,
            class_code=self.candidates.pred.class_code,
            standing=standing,
            ordinary=self._ordinary,
        )

    def _f1_at(self, labels: Labels, state: State) -> float | None:
        solved = state.solved_labels(labels.label)
        won = labels.winner != NONE
        won[won] = solved[labels.winner[won]]
        gained = int(won.sum()) + int(state.solved_misses(labels.missed).sum())
        right = int(labels.found.sum()) + gained
        wrong = int(((labels.label != RIGHT) & (labels.label != ASIDE) & ~solved).sum())
        value = f1_value(right, wrong, int(labels.ordinary.sum()) - right)
        return 1.0 if value is None and state.is_fixed else value

    def _ap_cells(self, state: State) -> list[NDArray[np.float64]]:
        """AP per threshold and class that has objects."""
        every, ranked = self.ap_labels(state.present)
        return [self._ap_at(labels, ranked, state) for labels in every]

    def _ap_at(
        self, labels: Labels, ranked: NDArray[np.int64], state: State
    ) -> NDArray[np.float64]:
        pred, gt = self.candidates.pred, self.candidates.columns.gt
        solved = state.solved_labels(labels.label)
        right = labels.label == RIGHT
        taking_part = (labels.label != ASIDE) & ~solved & (pred.class_code != UNKNOWN_CLASS)
        class_code = pred.class_code.copy()
        won = np.flatnonzero(labels.winner != NONE)
        won = won[solved[labels.winner[won]]]
        mended = labels.winner[won]
        right[mended] = taking_part[mended] = True
        class_code[mended] = gt.class_code[won]
        rows = ranked[taking_part[ranked]]
        found = np.flatnonzero(state.solved_misses(labels.missed))
        # Nobody knows how sure a model would be of what it did not write: found ones stand first.
        return average_precisions(
            np.concatenate([gt.class_code[found], class_code[rows]]),
            np.concatenate([np.ones(len(found), dtype=bool), right[rows]]),
            np.bincount(
                gt.class_code[labels.ordinary],
                minlength=len(self.candidates.columns.universe.names),
            ),
        )


class _Recent(Generic[Found]):
    """What a judge found for the sets of predictions that were asked for last."""

    def __init__(self, judge: Callable[[NDArray[np.bool_]], Found]) -> None:
        self._judge = judge
        self._held: dict[bytes, Found] = {}

    def of(self, present: NDArray[np.bool_]) -> Found:
        """The verdicts where these predictions (N) are written."""
        key = _digest(present)
        found = self._held.pop(key, None)
        if found is None:
            found = self._judge(present)
        self._held[key] = found
        if len(self._held) > SETS_KEPT:
            del self._held[next(iter(self._held))]
        return found


def _digest(present: NDArray[np.bool_]) -> bytes:
    return blake2b(np.packbits(present).tobytes(), digest_size=16).digest()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else None


__all__ = ["SCORE_KEYS", "Measure", "Scores"]
