"""What the box losses measure on a predicted and a true box: overlap, union, enclosing box.

Shapes: M boxes as corners x1, y1, x2, y2, in units of the whole coordinate range (0..1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from coordeval.coords import MAX_BIN

if TYPE_CHECKING:
    from torch import Tensor

ONE_BIN = 1.0 / MAX_BIN
# A tenth of the smallest box on the grid (one bin by one bin): no true box of positive area
# comes near it, so that it changes no value there, and nothing is divided by zero elsewhere.
LEAST_AREA = 0.1 * ONE_BIN**2


def canonical_boxes(boxes_M4: Tensor) -> Tensor:
    """Corners put in order: x1 <= x2 and y1 <= y2, values and gradients moved together.

    Corners that are equal keep their places, so that a box without width still learns to
    open: its x1 is pulled to the left and its x2 to the right.
    """
    first_M2, second_M2 = boxes_M4[:, :2], boxes_M4[:, 2:]
    inverted_M2 = second_M2 < first_M2
    return torch.cat(
        [
            torch.where(inverted_M2, second_M2, first_M2),
            torch.where(inverted_M2, first_M2, second_M2),
        ],
        dim=1,
    )


def area(sides_M2: Tensor) -> Tensor:
    """Width times height: (M,)."""
    return sides_M2[:, 0] * sides_M2[:, 1]


class BoxPair(NamedTuple):
    """Predicted (`pred`) and true (`true`) boxes in canonical order, with what both losses need.

    Sides are (M, 2), width and height; `iou_M`, `union_M` and `enclosing_M2` (sides of the
    smallest box around both) belong to the pair.
    """

    pred_M4: Tensor
    true_M4: Tensor
    pred_sides_M2: Tensor
    true_sides_M2: Tensor
    iou_M: Tensor
    union_M: Tensor
    enclosing_M2: Tensor


def box_pair(pred_M4: Tensor, true_M4: Tensor) -> BoxPair:
    """Measure M pairs; inverted boxes are put in order first.

    IoU of two boxes without area is 0. No boxes give empty tensors. Raises ValueError where the
    shapes are not two times (M, 4).
    """
    if pred_M4.shape != true_M4.shape or pred_M4.ndim != 2 or pred_M4.shape[1] != 4:
        raise ValueError(
            f"boxes are (M, 4) twice, not {tuple(pred_M4.shape)} and {tuple(true_M4.shape)}"
        )
    pred_M4, true_M4 = canonical_boxes(pred_M4), canonical_boxes(true_M4)
    low_M2 = torch.maximum(pred_M4[:, :2], true_M4[:, :2])
    high_M2 = torch.minimum(pred_M4[:, 2:], true_M4[:, 2:])
    shared_M = area((high_M2 - low_M2).clamp(min=0))
    pred_sides_M2 = pred_M4[:, 2:] - pred_M4[:, :2]
    true_sides_M2 = true_M4[:, 2:] - true_M4[:, :2]
    union_M = area(pred_sides_M2) + area(true_sides_M2) - shared_M
    enclosing_M2 = torch.maximum(pred_M4[:, 2:], true_M4[:, 2:]) - torch.minimum(
        pred_M4[:, :2], true_M4[:, :2]
    )
    iou_M = shared_M / union_M.clamp(min=LEAST_AREA)
    return BoxPair(pred_M4, true_M4, pred_sides_M2, true_sides_M2, iou_M, union_M, enclosing_M2)


__all__ = ["LEAST_AREA", "ONE_BIN", "BoxPair", "area", "box_pair", "canonical_boxes"]
