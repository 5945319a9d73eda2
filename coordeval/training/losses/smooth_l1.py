"""Smooth L1 between a predicted and a true box.

Shapes: M boxes as corners x1, y1, x2, y2, in units of the whole coordinate range (0..1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from coordeval.training.losses.box_geometry import canonical_boxes
from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def smooth_l1_per_box(pred_M4: Tensor, true_M4: Tensor, *, beta: float = 1.0) -> Tensor:
    """Mean over the four coordinates of d^2 / (2 beta) where |d| < beta, else |d| - beta/2: (M,).

    Girshick, 2015. Both boxes are put in order first, as for the overlap losses, so that all box
    losses speak of one and the same box: comparing corners as they come charges an inverted
    prediction for its order here and for its place there. So an inverted box that covers the true
    one costs nothing; which slot holds which corner is taught by the terms on slots. `beta` is in
    units of the range: at 1 no distance reaches it and the loss is d^2 / 2 throughout, one bin is
    1/999. Raises ValueError for a beta that is not positive or boxes of different shapes.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, not {beta}")
    if pred_M4.shape != true_M4.shape or pred_M4.ndim != 2 or pred_M4.shape[1] != 4:
        raise ValueError(
            f"boxes are (M, 4) twice, not {tuple(pred_M4.shape)} and {tuple(true_M4.shape)}"
        )
    pred_M4 = canonical_boxes(widened(pred_M4))
    true_M4 = canonical_boxes(true_M4.to(pred_M4.dtype))
    return functional.smooth_l1_loss(pred_M4, true_M4, beta=beta, reduction="none").mean(dim=1)


def smooth_l1(
    pred_M4: Tensor, true_M4: Tensor, *, beta: float = 1.0, mask_M: Tensor | None = None
) -> LossTerm:
    """Sum of `smooth_l1_per_box` over the kept boxes; the count is boxes. None: sum 0, count 0."""
    kept_M4 = kept_rows(pred_M4, mask_M)
    boxes_M = smooth_l1_per_box(kept_M4, kept_rows(true_M4, mask_M), beta=beta)
    return LossTerm(boxes_M.sum(), boxes_M.shape[0])


__all__ = ["smooth_l1", "smooth_l1_per_box"]
