"""Cross-entropy among the coordinate tokens alone, against the true bin.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from coordeval.training.losses.term import LossTerm, kept_rows

if TYPE_CHECKING:
    from torch import Tensor


def hard_ce(coord_logits_NK: Tensor, bins_N: Tensor, mask_N: Tensor | None = None) -> LossTerm:
    """Sum of -log softmax(coord_logits)[bin] over the kept slots, without a temperature.

    Blind to mass outside the coordinate tokens: use it together with `gate`. No slots: sum 0,
    count 0.
    """
    logits_MK = kept_rows(coord_logits_NK, mask_N)
    bins_M = kept_rows(bins_N, mask_N)
    return LossTerm(
        functional.cross_entropy(logits_MK.float(), bins_M, reduction="sum"), bins_M.shape[0]
    )


__all__ = ["hard_ce"]
