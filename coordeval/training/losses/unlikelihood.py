"""Unlikelihood: how probable a token still is that must not stand at a position.

Welleck et al., Neural Text Generation with Unlikelihood Training (2020).

Shapes: U pairs of a position and a token, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from coordeval.training.losses.term import LossTerm, kept_rows, widened
from coordeval.training.losses.vocabulary_split import finite_shift, guarded_logsumexp, share_of

if TYPE_CHECKING:
    from torch import Tensor

NEGATIVE_INFINITY = float("-inf")


def unlikelihood_per_token(logits_UV: Tensor, tokens_U: Tensor) -> Tensor:
    """-log(1 - softmax(logits)[token]) of each row, (U,); rows may repeat a position.

    From how far the token leads all others, z - logsumexp(others), as log(1 + exp(lead)): exact
    where the probability is next to 0 and where it is next to 1, and its gradient is bounded.
    Raises ValueError for a vocabulary of one token, which leaves nothing else to say.
    """
    if logits_UV.shape[1] < 2:
        raise ValueError("unlikelihood needs a vocabulary of two tokens or more")
    logits_UV, column_U1 = widened(logits_UV), tokens_U[:, None]
    token_U = logits_UV.gather(1, column_U1)[:, 0]
    others_U = guarded_logsumexp(logits_UV.scatter(1, column_U1, NEGATIVE_INFINITY))
    return -functional.logsigmoid(others_U - token_U)


def unlikelihood(logits_UV: Tensor, tokens_U: Tensor, mask_U: Tensor | None = None) -> LossTerm:
    """Sum of `unlikelihood_per_token` over the kept rows; none: sum 0, count 0."""
    values_U = unlikelihood_per_token(kept_rows(logits_UV, mask_U), kept_rows(tokens_U, mask_U))
    return LossTerm(values_U.sum(), values_U.shape[0])


def unlikelihood_in_place(logits_UV: Tensor, tokens_U: Tensor) -> tuple[Tensor, Tensor]:
    """(Sum over the rows, its gradient (U, V) to the logits) without a graph.

    The gradient is p at the token and -p * softmax over the others at these. It takes the memory
    of the logits (float32 or wider), which are lost.
    """
    column_U1 = tokens_U[:, None]
    token_U = logits_UV.gather(1, column_U1)[:, 0]
    logits_UV.scatter_(1, column_U1, NEGATIVE_INFINITY)
    shift_U1 = finite_shift(logits_UV.amax(dim=1, keepdim=True))
    exp_UV = logits_UV.sub_(shift_U1).exp_()
    sum_U = exp_UV.sum(dim=1)
    lead_U = (token_U - shift_U1[:, 0]) - sum_U.log()
    probability_U1 = lead_U.sigmoid()[:, None]
    grad_UV = exp_UV.mul_(-share_of(probability_U1, sum_U[:, None]))
    grad_UV.scatter_(1, column_U1, probability_U1)
    return -functional.logsigmoid(-lead_U).sum(), grad_UV


__all__ = ["unlikelihood", "unlikelihood_in_place", "unlikelihood_per_token"]
