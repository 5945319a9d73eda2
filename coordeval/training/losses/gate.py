"""The coordinate gate: how much probability leaks out of the coordinate tokens at their slots.

Shapes: N coordinate slots, V vocabulary, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from coordeval.training.losses.term import LossTerm, kept_rows

if TYPE_CHECKING:
    from torch import Tensor


def gate(
    logits_NV: Tensor,
    coord_ids_K: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum over the kept slots of logsumexp(all / T) - logsumexp(coordinates / T).

    That is -log P(coordinate token); 0 only where all mass is on coordinate tokens. The losses
    that see the coordinate logits alone renormalise among them and cannot notice a leak.
    Computed as softplus(logsumexp(others) - logsumexp(coordinates)), which is the same number
    without cancellation where the leak is small. No slots: sum 0, count 0. Raises ValueError for
    a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    logits_MV = kept_rows(logits_NV, mask_N).float() / temperature
    coord_lse_M = torch.logsumexp(logits_MV[:, coord_ids_K], dim=1)
    if coord_ids_K.numel() == logits_MV.shape[1]:
        return LossTerm((coord_lse_M * 0.0).sum(), logits_MV.shape[0])
    others_lse_M = torch.logsumexp(logits_MV.index_fill(1, coord_ids_K, float("-inf")), dim=1)
    return LossTerm(functional.softplus(others_lse_M - coord_lse_M).sum(), logits_MV.shape[0])


__all__ = ["gate"]
