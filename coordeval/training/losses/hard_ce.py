"""Cross-entropy among the coordinate tokens alone, against the true bin.

Shapes: N coordinate slots, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from coordeval.training.losses.term import LossTerm, kept_rows, widened

if TYPE_CHECKING:
    from torch import Tensor


def hard_ce_per_slot(coord_logits_NK: Tensor, bins_N: Tensor) -> Tensor:
    """-log softmax(coord_logits)[bin] of each slot, without a temperature: (N,).

    Blind to mass outside the coordinate tokens: use it together with `gate`. Over the whole
    vocabulary it is `text_ce` at the slots, the sum of this and the gate.
    """
    return functional.cross_entropy(widened(coord_logits_NK), bins_N, reduction="none")


def hard_ce(coord_logits_NK: Tensor, bins_N: Tensor, mask_N: Tensor | None = None) -> LossTerm:
    """Sum of `hard_ce_per_slot` over the kept slots; no slots: sum 0, count 0."""
    slots_M = hard_ce_per_slot(kept_rows(coord_logits_NK, mask_N), kept_rows(bins_N, mask_N))
    return LossTerm(slots_M.sum(), slots_M.shape[0])


__all__ = ["hard_ce", "hard_ce_per_slot"]
