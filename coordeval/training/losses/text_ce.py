"""Cross-entropy over the whole vocabulary at text positions.

Shapes: N positions (shifted: row n predicts label n), V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from coordeval.training.losses.term import LossTerm, kept_rows

if TYPE_CHECKING:
    from torch import Tensor


def text_ce(logits_NV: Tensor, labels_N: Tensor, mask_N: Tensor | None = None) -> LossTerm:
    """Sum of -log softmax(logits)[label] over the rows that the mask keeps, and their number.

    `labels_N` are token ids; rows to be left out (prompt, padding, coordinates where other terms
    teach them) are masked, not marked by a magic label. No rows: sum 0, count 0.
    """
    logits_MV = kept_rows(logits_NV, mask_N)
    labels_M = kept_rows(labels_N, mask_N)
    return LossTerm(
        functional.cross_entropy(logits_MV.float(), labels_M, reduction="sum"), labels_M.shape[0]
    )


__all__ = ["text_ce"]
