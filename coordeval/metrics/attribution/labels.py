"""What is wrong with each prediction that has no partner: TIDE's definitions, at any threshold.

With foreground threshold t and background threshold 0.1 (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), the first that holds:

- Loc: the best IoU with an object of its class is in [0.1, t];
- Cls: the best IoU with an object of another class is >= t;
- Dupe: the best IoU with an object of its class is > t (that object has a partner already);
- Bkg: no object overlaps by more than 0.1;
- Both: the rest.

A name outside the class universe has no objects of its class; where such a prediction would be
Cls, the label is Unknown. A Loc, Cls or Unknown whose object has no partner can become right; of
several that share an object the one that stands first does (by score for AP, by emission for F1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.iou import Edges

BACKGROUND_IOU = 0.1
RIGHT, LOC, CLS, UNKNOWN, DUPE, BKG, BOTH, ASIDE = range(8)
"""Labels of predictions; ASIDE is neither right nor wrong (not present, or on a crowd region)."""
NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """Per prediction (N), the best ordinary object of its own and of another class.

    `own_gt` and `other_gt` are ground-truth rows, -1 where nothing overlaps by 0.1; `any_iou` is 0
    there. Ties go to the earlier object.
    """

    own_iou: NDArray[np.float64]
    own_gt: NDArray[np.int64]
    other_iou: NDArray[np.float64]
    other_gt: NDArray[np.int64]

    @property
    def any_iou(self) -> NDArray[np.float64]:
        """The best IoU with any ordinary object (N)."""
        return np.maximum(self.own_iou, self.other_iou)


def nearest(edges: Edges, same_class: NDArray[np.bool_], num_pred: int) -> Nearest:
    """Reduce edges (all pairs with IoU >= 0.1) to the best of each kind per prediction."""
    own_iou, own_gt = _best(edges.where(same_class), num_pred)
    other_iou, other_gt = _best(edges.where(~same_class), num_pred)
    return Nearest(own_iou=own_iou, own_gt=own_gt, other_iou=other_iou, other_gt=other_gt)


def _best(edges: Edges, num_pred: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    value = np.zeros(num_pred)
    gt = np.full(num_pred, NONE, dtype=np.int64)
    order = np.lexsort((-edges.gt, edges.value))  # the best one is written last
    value[edges.pred[order]] = edges.value[order]
    gt[edges.pred[order]] = edges.gt[order]
    return value, gt


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The verdict on every prediction and object at one threshold.

    `label` (N) is one of the constants above. `winner` (G) is the prediction that a fix of its own
    label would make right for an object without a partner, else -1. `found` (G) marks objects with
    a partner, `ordinary` (G) those that count at all (no crowd regions).
    """

    threshold: float
    label: NDArray[np.int8]
    winner: NDArray[np.int32]
    found: NDArray[np.bool_]
    ordinary: NDArray[np.bool_]

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Objects (G) that no prediction finds, and that no fix of a prediction would find."""
        return np.asarray(self.ordinary & ~self.found & (self.winner == NONE), dtype=np.bool_)


def label_all(
    threshold: float,
    *,
    near: Nearest,
    partner: NDArray[np.int64],
    aside: NDArray[np.bool_],
    class_code: NDArray[np.int64],
    standing: NDArray[np.int64],
    ordinary: NDArray[np.bool_],
) -> Labels:
    """Label predictions (N) against objects (G) at one threshold.

    `partner` (N) holds ground-truth rows or -1, `aside` (N) marks what is neither right nor wrong,
    `standing` (N) is the rank by which predictions compete for an object (smaller wins).
    """
    right = partner >= 0
    unknown = class_code == UNKNOWN_CLASS
    label = np.full(len(partner), BOTH, dtype=np.int8)
    label[near.any_iou <= BACKGROUND_IOU] = BKG
    label[near.own_iou > threshold] = DUPE
    label[near.other_iou >= threshold] = CLS
    label[(near.other_iou >= threshold) & unknown] = UNKNOWN
    label[(near.own_iou >= BACKGROUND_IOU) & (near.own_iou <= threshold)] = LOC
    label[right] = RIGHT
    label[aside] = ASIDE
    found = np.zeros(len(ordinary), dtype=bool)
    found[partner[right]] = True
    target = np.where(label == LOC, near.own_gt, NONE)
    target = np.where((label == CLS) | (label == UNKNOWN), near.other_gt, target)
    rows = np.flatnonzero(target >= 0)
    rows = rows[~found[target[rows]]]
    rows = rows[np.argsort(-standing[rows], kind="stable")]
    winner = np.full(len(ordinary), NONE, dtype=np.int32)
    winner[target[rows]] = rows  # the one that stands first is written last
    return Labels(threshold=threshold, label=label, winner=winner, found=found, ordinary=ordinary)


__all__ = [
    "ASIDE",
    "BACKGROUND_IOU",
    "BKG",
    "BOTH",
    "CLS",
    "DUPE",
    "LOC",
    "NONE",
    "RIGHT",
    "UNKNOWN",
    "Labels",
    "Nearest",
    "label_all",
    "nearest",
]
