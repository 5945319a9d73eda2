"""Cross-entropy among the coordinate tokens against a soft target.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.term import LossTerm, kept_rows

if TYPE_CHECKING:
    from torch import Tensor


def soft_ce(
    coord_logits_NK: Tensor,
    target_NK: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum of -sum_k q_k log softmax(coord_logits / T)_k over the kept slots.

    `target_NK` are probabilities (see `gaussian_target`). A bin of target 0 adds nothing even
    where its logit is -inf. Never below the target's entropy (1.419 nats at sigma 1). No slots:
    sum 0, count 0. Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    logits_MK = kept_rows(coord_logits_NK, mask_N).float() / temperature
    target_MK = kept_rows(target_NK, mask_N).float()
    log_probs_MK = torch.log_softmax(logits_MK, dim=1)
    # 0 * -inf would be NaN, in the loss and in the gradient.
    weighted_MK = target_MK * log_probs_MK.masked_fill(target_MK == 0, 0.0)
    return LossTerm(-weighted_MK.sum(), target_MK.shape[0])


__all__ = ["soft_ce"]
