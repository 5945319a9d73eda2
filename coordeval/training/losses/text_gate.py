"""The text gate: how much probability leaks into the coordinate tokens where text stands.

Shapes: N text positions, V vocabulary, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.term import LossTerm, kept_rows, widened
from coordeval.training.losses.vocabulary_split import text_gate_of_split

if TYPE_CHECKING:
    from torch import Tensor


def text_gate_per_token(
    logits_NV: Tensor, coord_ids_K: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """-log(1 - P(coordinate token)) of each position, P = softmax(logits / T): (N,).

    Computed as softplus(logsumexp(coordinates) - logsumexp(others)): exact where P is next to 0
    and where it is next to 1, without the floor under 1 - P that would end the gradient where
    it is needed most. Raises ValueError for a temperature that is not positive or a vocabulary
    of nothing but coordinates.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if coord_ids_K.numel() >= logits_NV.shape[1]:
        raise ValueError("a vocabulary of nothing but coordinate tokens has no text")
    logits_NV = widened(logits_NV) / temperature
    coord_lse_N = torch.logsumexp(logits_NV[:, coord_ids_K], dim=1)
    others_lse_N = torch.logsumexp(logits_NV.index_fill(1, coord_ids_K, float("-inf")), dim=1)
    return text_gate_of_split(others_lse_N, coord_lse_N)


def text_gate(
    logits_NV: Tensor,
    coord_ids_K: Tensor,
    *,
    temperature: float = 1.0,
    mask_N: Tensor | None = None,
) -> LossTerm:
    """Sum of `text_gate_per_token` over the kept positions; none: sum 0, count 0.

    The caller's mask keeps text tokens and leaves end tokens out: when to end is for the text CE
    to teach.
    """
    values_M = text_gate_per_token(
        kept_rows(logits_NV, mask_N), coord_ids_K, temperature=temperature
    )
    return LossTerm(values_M.sum(), values_M.shape[0])


__all__ = ["text_gate", "text_gate_per_token"]
