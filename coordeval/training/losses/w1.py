"""Wasserstein-1 distance between the predicted and the target distribution over bins.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.term import LossTerm, kept_rows

if TYPE_CHECKING:
    from torch import Tensor


def w1(
    coord_logits_NK: Tensor,
    target_NK: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum over the kept slots of sum_k |CDF_p(k) - CDF_q(k)| / (K - 1), p = softmax(logits / T).

    In units of the whole coordinate range: all mass d bins away from a one-hot target costs
    d / (K - 1), at most 1. No slots: sum 0, count 0. Raises ValueError for fewer than two bins or
    a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    num_bins = coord_logits_NK.shape[1]
    if num_bins < 2:
        raise ValueError("a distance between distributions needs at least two bins")
    logits_MK = kept_rows(coord_logits_NK, mask_N).float() / temperature
    target_MK = kept_rows(target_NK, mask_N).float()
    probs_MK = torch.softmax(logits_MK, dim=1)
    # One running sum of the difference: two running sums of float32 would drift apart.
    gap_MK = torch.cumsum(probs_MK - target_MK, dim=1).abs()
    return LossTerm(gap_MK.sum() / (num_bins - 1), target_MK.shape[0])


__all__ = ["w1"]
