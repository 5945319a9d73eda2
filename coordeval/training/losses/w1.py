"""Wasserstein-1 distance between the predicted and the target distribution over bins.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def w1_per_slot(coord_logits_NK: Tensor, target_NK: Tensor, *, temperature: float = 1.0) -> Tensor:
    """sum_k |CDF_p(k) - CDF_q(k)| / (K - 1) of each slot, p = softmax(logits / T): (N,).

    In units of the whole coordinate range: all mass d bins away from a one-hot target costs
    d / (K - 1), at most 1. Raises ValueError for fewer than two bins or a temperature that is not
    positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    num_bins = coord_logits_NK.shape[1]
    if num_bins < 2:
        raise ValueError("a distance between distributions needs at least two bins")
    probs_NK = torch.softmax(widened(coord_logits_NK) / temperature, dim=1)
    # One running sum of the difference: two running sums of float32 would drift apart.
    gap_NK = torch.cumsum(probs_NK - target_NK.to(probs_NK.dtype), dim=1).abs()
    return gap_NK.sum(dim=1) / (num_bins - 1)


def w1(
    coord_logits_NK: Tensor,
    target_NK: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum of `w1_per_slot` over the kept slots; no slots: sum 0, count 0."""
    logits_MK, target_MK = kept_rows(coord_logits_NK, mask_N), kept_rows(target_NK, mask_N)
    slots_M = w1_per_slot(logits_MK, target_MK, temperature=temperature)
    return LossTerm(slots_M.sum(), slots_M.shape[0])


__all__ = ["w1", "w1_per_slot"]
