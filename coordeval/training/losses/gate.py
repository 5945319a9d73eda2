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


def gate_per_slot(logits_NV: Tensor, coord_ids_K: Tensor, *, temperature: float = 1.0) -> Tensor:
    """logsumexp(all / T) - logsumexp(coordinates / T) of each slot: (N,) float32.

    That is -log P(coordinate token); 0 only where all mass is on coordinate tokens. The losses
    that see the coordinate logits alone renormalise among them and cannot notice a leak.
    Computed as softplus(logsumexp(others) - logsumexp(coordinates)), which is the same number
    without cancellation where the leak is small. Raises ValueError for a temperature that is not
    positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    logits_NV = logits_NV.float()
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    coord_lse_N = torch.logsumexp(logits_NV[:, coord_ids_K], dim=1)
    if coord_ids_K.numel() == logits_NV.shape[1]:
        return coord_lse_N * 0.0
    others_lse_N = torch.logsumexp(logits_NV.index_fill(1, coord_ids_K, float("-inf")), dim=1)
    return functional.softplus(others_lse_N - coord_lse_N)


def gate(
    logits_NV: Tensor,
    coord_ids_K: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum of `gate_per_slot` over the kept slots; no slots: sum 0, count 0."""
    slots_M = gate_per_slot(kept_rows(logits_NV, mask_N), coord_ids_K, temperature=temperature)
    return LossTerm(slots_M.sum(), slots_M.shape[0])


__all__ = ["gate", "gate_per_slot"]
