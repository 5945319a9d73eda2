"""The classical table: TIDE's six main errors on score-ordered detections, as tidecv prints them.

For comparison with published TIDE figures, to the digit, and therefore with the habits of that tool
(tidecv 1.0.1): the best 100 detections per image whatever their class; detections on crowd regions
may still become right by a fix, and are counted; after a fix, the remaining wrong detections stand
before the right ones of equal score; a gain below 0 is shown as 0. It sees neither drops nor loops,
and on tied scores it understates: the costs beside it have none of these habits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.attribution.average_precision import (
    average_precisions,
    match_by_score,
    rank_by_score,
)
from coordeval.metrics.attribution.labels import (
    BACKGROUND_IOU,
    BKG,
    BOTH,
    CLS,
    DUPE,
    LOC,
    NONE,
    RIGHT,
    Labels,
    label_all,
)
from coordeval.metrics.classes import UNKNOWN_CLASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.attribution.candidates import Candidates
    from coordeval.metrics.attribution.overlap import View

POSITIVE_IOU = 0.5
MAX_PER_IMAGE = 100
_VERDICTS = {"Cls": CLS, "Loc": LOC, "Both": BOTH, "Dupe": DUPE, "Bkg": BKG}


@dataclass(frozen=True, slots=True, kw_only=True)
class TideTable:
    """AP50 and, per error, how often it occurs and the AP50 (0..1) that its fix alone gains.

    None where there is neither ground truth nor a detection.
    """

    ap50: float | None
    gain: dict[str, float | None]
    count: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the thresholds that define it."""
        return {
            "positive_iou": POSITIVE_IOU,
            "background_iou": BACKGROUND_IOU,
            "AP50": self.ap50,
            "gain": self.gain,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """The detections (N) in play, their verdicts, and which of them lie on crowd regions."""

    candidates: Candidates
    labels: Labels
    rank: NDArray[np.int64]
    in_play: NDArray[np.bool_]
    on_crowd: NDArray[np.bool_]


def tide_table(candidates: Candidates, view: View) -> TideTable:
    """TIDE's main errors of a run as it is, each fixed alone."""
    judged = _judge(candidates, view)
    labels = judged.labels
    base = _ap50(judged, fixed=None)
    gain: dict[str, float | None] = {}
    count = {}
    for name, verdict in _VERDICTS.items():
        gain[name] = _gain(_ap50(judged, fixed=verdict), base)
        count[name] = int((judged.in_play & (labels.label == verdict)).sum())
    gain["Miss"] = _gain(_ap50(judged, fixed=None, found=labels.missed), base)
    count["Miss"] = int(labels.missed.sum())
    return TideTable(ap50=base, gain=gain, count=count)


def _gain(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else max(value - base, 0.0)


def _judge(candidates: Candidates, view: View) -> _Judged:
    pred = candidates.pred
    ordinary = ~candidates.columns.gt.crowd
    taking_part = candidates.valid & (pred.class_code != UNKNOWN_CLASS)
    rank = rank_by_score(candidates.scores(candidates.valid))
    in_play = _best_per_image(pred.shapes.image, rank, taking_part)
    edges = view.edges.where(view.same_class & in_play[view.edges.pred])
    partner = match_by_score(edges, rank, len(ordinary), (POSITIVE_IOU,))[0]
    labels = label_all(
        POSITIVE_IOU,
        near=view.near,
        partner=partner,
        aside=~in_play,
        class_code=pred.class_code,
        standing=rank,
        ordinary=ordinary,
    )
    return _Judged(
        candidates=candidates,
        labels=labels,
        rank=rank,
        in_play=in_play,
        on_crowd=(partner == NONE) & (view.crowd > POSITIVE_IOU),
    )


def _best_per_image(
    image: NDArray[np.int64], rank: NDArray[np.int64], taking_part: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    rows = np.flatnonzero(taking_part)
    rows = rows[np.lexsort((rank[rows], image[rows]))]
    first = np.searchsorted(image[rows], image[rows], side="left")
    out = np.zeros(len(rank), dtype=bool)
    out[rows[np.arange(len(rows)) - first < MAX_PER_IMAGE]] = True
    return out


def _ap50(
    judged: _Judged, *, fixed: int | None, found: NDArray[np.bool_] | None = None
) -> float | None:
    labels, candidates = judged.labels, judged.candidates
    right = labels.label == RIGHT
    points = judged.in_play & ~judged.on_crowd
    class_code = candidates.pred.class_code.copy()
    # After a fix the right ones stand behind; unfixed, detections keep the order of the run.
    behind = right.copy() if fixed is not None or found is not None else np.zeros_like(right)
    if fixed is not None:
        points &= labels.label != fixed
        objects = np.flatnonzero(labels.winner != NONE)
        objects = objects[labels.label[labels.winner[objects]] == fixed]
        mended = labels.winner[objects]
        points[mended] = right[mended] = True
        class_code[mended] = candidates.columns.gt.class_code[objects]
    positive = labels.ordinary if found is None else labels.ordinary & ~found
    num_classes = len(candidates.columns.universe.names)
    positives = np.bincount(candidates.columns.gt.class_code[positive], minlength=num_classes)
    rows = np.flatnonzero(points)
    score = candidates.scores(candidates.valid)
    rows = rows[np.lexsort((judged.rank[rows], behind[rows], -score[rows]))]
    values = average_precisions(class_code[rows], right[rows], positives)
    used = np.bincount(class_code[rows], minlength=num_classes) + positives > 0
    return float(values.sum() / used.sum()) if used.any() else None


__all__ = ["MAX_PER_IMAGE", "POSITIVE_IOU", "TideTable", "tide_table"]
