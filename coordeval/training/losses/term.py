"""What every loss term returns: a sum and how many positions it was taken over.

Sums and counts add up over micro-batches and processes, so that one division at the end gives
the same loss however an optimizer step was cut into pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class LossTerm(NamedTuple):
    """`loss_sum`: float32 scalar with gradient; `num_tokens`: positions it sums over.

    Where positions are weighted, the sum of their weights, which need not be whole.
    """

    loss_sum: Tensor
    num_tokens: float

    @property
    def mean(self) -> Tensor:
        """Sum over count; 0 (still part of the graph) where nothing was counted."""
        return self.loss_sum / (self.num_tokens or 1)


def kept_rows(tensor_NX: Tensor, mask_N: Tensor | None) -> Tensor:
    """Rows of a (N, ...) tensor where the boolean mask holds; all of them without a mask.

    Masked rows are left out before any arithmetic, so that NaN or infinity in them reaches
    neither the loss nor the gradient (which is exactly 0 there).
    """
    if mask_N is None:
        return tensor_NX
    if mask_N.shape != tensor_NX.shape[:1]:
        raise ValueError(f"mask of shape {tuple(mask_N.shape)} for {tensor_NX.shape[0]} rows")
    return tensor_NX[mask_N]


def widened(logits: Tensor) -> Tensor:
    """In float32, where a loss does its arithmetic; float64 stays as it is."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


__all__ = ["LossTerm", "kept_rows", "widened"]
