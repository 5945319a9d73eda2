"""Complete IoU between a predicted and a true box: overlap, centre distance, aspect ratio.

Shapes: M boxes as corners x1, y1, x2, y2, in units of the whole coordinate range (0..1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.box_geometry import LEAST_AREA, ONE_BIN, box_pair
from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def ciou_per_box(pred_M4: Tensor, true_M4: Tensor) -> Tensor:
    """1 - (IoU - d^2 / c^2 - alpha v) of each pair: (M,), 0 for equal boxes.

    d is the distance of the centres, c the diagonal of the enclosing box,
    v = 4 / pi^2 (atan(w_true / h_true) - atan(w / h))^2 and alpha = v / (1 - IoU + v), 0 where
    v is (Zheng et al., 2020, "Distance-IoU Loss", eq. 8-11). alpha is a constant for the
    gradient, as in the paper, where it is a trade-off between terms and its own derivative would
    reward a worse overlap. Inverted boxes are put in order first. Values are exact; the gradient
    of the aspect ratio, which the paper notes to explode for small boxes, is bounded for those
    whose diagonal is below one bin. Finite for boxes without area. Raises ValueError for boxes of
    different shapes.
    """
    pred_M4 = widened(pred_M4)
    pair = box_pair(pred_M4, true_M4.to(pred_M4.dtype))
    offset_M2 = (pair.pred_M4[:, :2] + pair.pred_M4[:, 2:]) / 2
    offset_M2 = offset_M2 - (pair.true_M4[:, :2] + pair.true_M4[:, 2:]) / 2
    diagonal_sq_M = pair.enclosing_M2.square().sum(dim=1).clamp(min=LEAST_AREA)
    distance_M = offset_M2.square().sum(dim=1) / diagonal_sq_M
    angle_M = _aspect_angle(pair.true_sides_M2) - _aspect_angle(pair.pred_sides_M2)
    v_M = (4 / math.pi**2) * angle_M.square()
    with torch.no_grad():
        spread_M = 1 - pair.iou_M + v_M
        alpha_M = v_M / torch.where(spread_M > 0, spread_M, 1.0)
    return 1 - pair.iou_M + distance_M + alpha_M * v_M


def _aspect_angle(sides_M2: Tensor) -> Tensor:
    """atan(w / h), (M,): its exact value, and its gradient with w^2 + h^2 at least one bin^2."""
    fixed_M2 = sides_M2.detach()
    inverse_M = 1 / fixed_M2.square().sum(dim=1).clamp(min=ONE_BIN**2)
    slope_M2 = torch.stack([fixed_M2[:, 1], -fixed_M2[:, 0]], dim=1) * inverse_M[:, None]
    angle_M = torch.atan2(fixed_M2[:, 0], fixed_M2[:, 1])
    return angle_M + (slope_M2 * (sides_M2 - fixed_M2)).sum(dim=1)


def ciou(pred_M4: Tensor, true_M4: Tensor, mask_M: Tensor | None = None) -> LossTerm:
    """Sum of `ciou_per_box` over the kept boxes; the count is boxes. None: sum 0, count 0."""
    boxes_M = ciou_per_box(kept_rows(pred_M4, mask_M), kept_rows(true_M4, mask_M))
    return LossTerm(boxes_M.sum(), boxes_M.shape[0])


__all__ = ["ciou", "ciou_per_box"]
