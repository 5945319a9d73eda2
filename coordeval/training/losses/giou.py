"""Generalised IoU between a predicted and a true box.

Our own few lines: torchvision, which has the formula, comes in builds that must fit torch's, and
is no dependency for it.

Shapes: M boxes as corners x1, y1, x2, y2, in units of the whole coordinate range (0..1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.training.losses.box_geometry import LEAST_AREA, area, box_pair
from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def giou_per_box(pred_M4: Tensor, true_M4: Tensor) -> Tensor:
    """1 - (IoU - (C - U) / C) of each pair, C the enclosing area, U the union: (M,), 0 to 2.

    Rezatofighi et al., 2019. Inverted boxes are put in order first. Values and gradients are
    finite for boxes without area, too. Raises ValueError for boxes of different shapes.
    """
    pred_M4 = widened(pred_M4)
    pair = box_pair(pred_M4, true_M4.to(pred_M4.dtype))
    enclosing_M = area(pair.enclosing_M2)
    empty_M = (enclosing_M - pair.union_M) / enclosing_M.clamp(min=LEAST_AREA)
    return 1 - pair.iou_M + empty_M


def giou(pred_M4: Tensor, true_M4: Tensor, mask_M: Tensor | None = None) -> LossTerm:
    """Sum of `giou_per_box` over the kept boxes; the count is boxes. None: sum 0, count 0."""
    boxes_M = giou_per_box(kept_rows(pred_M4, mask_M), kept_rows(true_M4, mask_M))
    return LossTerm(boxes_M.sum(), boxes_M.shape[0])


__all__ = ["giou", "giou_per_box"]
