"""Cross-entropy among the coordinate tokens against a soft target.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def soft_ce_per_slot(
    coord_logits_NK: Tensor, target_NK: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """-sum_k q_k log softmax(coord_logits / T)_k of each slot: (N,), empty for no slots.

    `target_NK` are probabilities (see `gaussian_target`). A bin of target 0 adds nothing even
    where its logit is -inf. Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    log_probs_NK = torch.log_softmax(widened(coord_logits_NK) / temperature, dim=1)
    target_NK = target_NK.to(log_probs_NK.dtype)
    # 0 * -inf would be NaN, in the loss and in the gradient.
    return -(target_NK * log_probs_NK.masked_fill(target_NK == 0, 0.0)).sum(dim=1)


def soft_ce(
    coord_logits_NK: Tensor,
    target_NK: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum of `soft_ce_per_slot` over the kept slots.

    Never below the target's entropy (1.419 nats at sigma 1). No slots: sum 0, count 0.
    """
    logits_MK, target_MK = kept_rows(coord_logits_NK, mask_N), kept_rows(target_NK, mask_N)
    slots_M = soft_ce_per_slot(logits_MK, target_MK, temperature=temperature)
    return LossTerm(slots_M.sum(), slots_M.shape[0])


__all__ = ["soft_ce", "soft_ce_per_slot"]
