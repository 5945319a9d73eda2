"""COCO average precision at one threshold from verdicts: 101 recall points, float for float.

Written out here because a fix changes verdicts, not boxes, and no COCO engine takes verdicts. On
an unfixed run it equals the engine's AP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.iou import Edges

MAX_DETECTIONS = 100
RECALL_POINTS = np.linspace(0.0, 1.0, 101)


def rank_by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each prediction: falling score, ties in the order of the run."""
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(len(scores))
    return rank


def within_limit(
    image: NDArray[np.int64],
    class_code: NDArray[np.int64],
    rank: NDArray[np.int64],
    taking_part: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which predictions are among the best 100 of their image and class."""
    rows = np.flatnonzero(taking_part)
    rows = rows[np.lexsort((rank[rows], class_code[rows], image[rows]))]
    out = np.zeros(len(rank), dtype=bool)
    if not len(rows):
        return out
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(image[rows]) != 0) | (np.diff(class_code[rows]) != 0)
    first = np.flatnonzero(new)
    place = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    out[rows[place < MAX_DETECTIONS]] = True
    return out


def match_by_score(
    edges: Edges, rank: NDArray[np.int64], num_gt: int, thresholds: tuple[float, ...]
) -> NDArray[np.int32]:
    """Ground-truth row per prediction at each threshold (T, N), or -1, as COCO matches.

    In the order of `rank` each prediction takes the free object of the largest IoU (ties: the
    later object). `edges` hold pairs of one class and of predictions that take part.
    """
    order = np.lexsort((-edges.gt, -edges.value, rank[edges.pred]))
    pred, gt, value = edges.pred[order], edges.gt[order], edges.value[order]
    out = np.full((len(thresholds), len(rank)), -1, dtype=np.int32)
    for row, threshold in enumerate(thresholds):
        keep = value >= threshold
        partner = out[row]
        taken = bytearray(num_gt)
        last = -1
        for p, g in zip(pred[keep].tolist(), gt[keep].tolist(), strict=True):
            if p != last and not taken[g]:
                partner[p] = g
                taken[g] = 1
                last = p
    return out


def average_precisions(
    class_code: NDArray[np.int64], right: NDArray[np.bool_], positives: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AP per class that has objects, at one threshold.

    `class_code` and `right` are of the predictions that take part, in the order of falling score;
    `positives` (classes) counts objects. Classes without objects are left out; none at all give
    an empty array.
    """
    small = len(positives) < np.iinfo(np.int16).max  # sixteen bits are sorted by radix
    order = np.argsort(class_code.astype(np.int16) if small else class_code, kind="stable")
    code, hit = class_code[order], right[order]
    classes = np.flatnonzero(positives)
    bounds = np.searchsorted(code, np.stack([classes, classes + 1]))
    out = np.zeros(len(classes))
    for place, number in enumerate(classes.tolist()):
        part = hit[bounds[0, place] : bounds[1, place]]
        if part.any():
            out[place] = _average_precision(part, int(positives[number]))
    return out


def _average_precision(hit: NDArray[np.bool_], positives: int) -> float:
    right = np.cumsum(hit).astype(np.float64)
    recall = right / positives
    precision = right / (np.arange(1, len(hit) + 1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALL_POINTS, side="left")
    inside = place < len(envelope)
    return float(envelope[place[inside]].sum() / len(RECALL_POINTS))


__all__ = [
    "MAX_DETECTIONS",
    "average_precisions",
    "match_by_score",
    "rank_by_score",
    "within_limit",
]
