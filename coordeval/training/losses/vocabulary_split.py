"""What the stage-1 terms need of a row of logits: the coordinate logits, and the rest as one sum.

Every term that looks at the whole vocabulary (text CE, hard CE, the two gates) is a function of
logsumexp over the coordinate tokens and logsumexp over all others, so one pass serves them all.

Shapes: N positions, V vocabulary, K bins, T text positions among the N (the first ones), Q
positions whose vocabulary is summed at another temperature, too (the last ones).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

NEGATIVE_INFINITY = float("-inf")


class Split(NamedTuple):
    """N rows of logits, each shifted by its own largest one (no term sees a shift).

    `coord_NK`: logits of the bins. `others_N`: logsumexp of all other tokens; `tempered_N`: the
    same of logits / T, 0 in rows where no term asks for it, None where T is 1. `label_T`: the
    labels' logits in the text rows.
    """

    coord_NK: Tensor
    others_N: Tensor
    tempered_N: Tensor | None
    label_T: Tensor

    def others_at(self, temperature: float) -> Tensor:
        """Logsumexp of the other tokens at temperature 1 or at the one the split was made with."""
        if temperature == 1.0 or self.tempered_N is None:
            return self.others_N
        return self.tempered_N


class SplitBuffers(NamedTuple):
    """exp(logits - shift) of the tokens outside the coordinates, and their sums, for the gradient.

    `exp_NV` has zeros in the coordinate columns; `tempered_*` are at T, of the last Q rows, those
    that ask for it, and None where T is 1.
    """

    exp_NV: Tensor
    sum_N: Tensor
    tempered_QV: Tensor | None
    tempered_sum_Q: Tensor | None


def text_ce_of_split(others_T: Tensor, coord_lse_T: Tensor, label_T: Tensor) -> Tensor:
    """-log softmax(logits)[label] from the two logsumexps and the label's logit: (T,)."""
    return torch.logaddexp(others_T, coord_lse_T) - label_T


def gate_of_split(others_N: Tensor, coord_lse_N: Tensor) -> Tensor:
    """-log P(coordinate token) from the two logsumexps: (N,); exact for small leaks."""
    return functional.softplus(others_N - coord_lse_N)


def text_gate_of_split(others_N: Tensor, coord_lse_N: Tensor) -> Tensor:
    """-log(1 - P(coordinate token)) from the two logsumexps: (N,); exact for small leaks."""
    return functional.softplus(coord_lse_N - others_N)


def split_logits(
    logits_NV: Tensor,
    coord_ids_K: Tensor,
    labels_T: Tensor,
    temperature: float,
    tempered_from: int = 0,
) -> Split:
    """The split by differentiable operations; the logits are kept, and copied once.

    Rows before `tempered_from` are not summed at the temperature.
    """
    coord_NK = logits_NV.index_select(1, coord_ids_K)
    label_T = logits_NV[: len(labels_T)].gather(1, labels_T[:, None])[:, 0]
    shift_N1 = finite_shift(logits_NV.detach().amax(dim=1, keepdim=True))
    others_NV = logits_NV.index_fill(1, coord_ids_K, NEGATIVE_INFINITY) - shift_N1
    tempered_N = None
    if temperature != 1.0:
        tempered_Q = guarded_logsumexp(others_NV[tempered_from:] / temperature)
        tempered_N = functional.pad(tempered_Q, (len(logits_NV) - len(tempered_Q), 0))
    return Split(
        coord_NK=coord_NK - shift_N1,
        others_N=guarded_logsumexp(others_NV),
        tempered_N=tempered_N,
        label_T=label_T - shift_N1[: len(labels_T), 0],
    )


def split_in_place(
    logits_NV: Tensor,
    coord_ids_K: Tensor,
    labels_T: Tensor,
    temperature: float,
    tempered_from: int = 0,
) -> tuple[Split, SplitBuffers]:
    """The same without a graph; the logits' memory becomes the buffer of the exponentials.

    One exponential per logit at T = 1; at another T a second one, and a second buffer, for the
    rows from `tempered_from` on.
    """
    coord_NK = logits_NV.index_select(1, coord_ids_K)
    label_T = logits_NV[: len(labels_T)].gather(1, labels_T[:, None])[:, 0]
    logits_NV.index_fill_(1, coord_ids_K, NEGATIVE_INFINITY)
    # The exponentials are taken against the others' own largest logit: against that of a row
    # that coordinates lead by 100 they would all vanish.
    own_N1 = finite_shift(logits_NV.amax(dim=1, keepdim=True))
    shift_N1 = finite_shift(torch.maximum(own_N1, coord_NK.amax(dim=1, keepdim=True)))
    lag_N = (own_N1 - shift_N1)[:, 0]
    logits_NV.sub_(own_N1)
    tempered_QV = tempered_sum_Q = tempered_N = None
    if temperature != 1.0:
        tempered_QV = (logits_NV[tempered_from:] / temperature).exp_()
        tempered_sum_Q = tempered_QV.sum(dim=1)
        tempered_Q = lag_N[tempered_from:] / temperature + tempered_sum_Q.log()
        tempered_N = functional.pad(tempered_Q, (len(lag_N) - len(tempered_Q), 0))
    exp_NV = logits_NV.exp_()
    sum_N = exp_NV.sum(dim=1)
    split = Split(
        coord_NK=coord_NK - shift_N1,
        others_N=lag_N + sum_N.log(),
        tempered_N=tempered_N,
        label_T=label_T - shift_N1[: len(labels_T), 0],
    )
    return split, SplitBuffers(exp_NV, sum_N, tempered_QV, tempered_sum_Q)


def logits_gradient(
    gradient: Split,
    buffers: SplitBuffers,
    coord_ids_K: Tensor,
    labels_T: Tensor,
    temperature: float,
) -> Tensor:
    """Gradient (N, V) of a scalar to the logits from its gradient to their split; in place.

    d logsumexp(z / T) / dz = softmax(z / T) / T. Overwrites `buffers.exp_NV`.
    """
    grad_NV = buffers.exp_NV.mul_(share_of(gradient.others_N, buffers.sum_N)[:, None])
    if buffers.tempered_QV is not None and buffers.tempered_sum_Q is not None:
        assert gradient.tempered_N is not None
        first = len(grad_NV) - len(buffers.tempered_QV)
        share_Q = share_of(gradient.tempered_N[first:] / temperature, buffers.tempered_sum_Q)
        grad_NV[first:].add_(buffers.tempered_QV.mul_(share_Q[:, None]))
    grad_NV.index_copy_(1, coord_ids_K, gradient.coord_NK)
    # Not scatter_add_, which is not deterministic on every device: a row has one label.
    text_TV, column_T1 = grad_NV[: len(labels_T)], labels_T[:, None]
    text_TV.scatter_(1, column_T1, text_TV.gather(1, column_T1) + gradient.label_T[:, None])
    return grad_NV


def guarded_logsumexp(logits_NV: Tensor) -> Tensor:
    """Logsumexp of each row, (N,); of nothing but -inf it is -inf, with the gradient 0, not NaN."""
    largest_N1 = finite_shift(logits_NV.detach().amax(dim=1, keepdim=True))
    sum_N = (logits_NV - largest_N1).exp().sum(dim=1)
    log_N = torch.where(sum_N == 0, 1.0, sum_N).log()
    return (largest_N1[:, 0] + log_N).masked_fill(sum_N == 0, NEGATIVE_INFINITY)


def share_of(gradient_N: Tensor, sum_N: Tensor) -> Tensor:
    """Gradient over sum; 0 where there is nothing to sum (a vocabulary of coordinates alone)."""
    return gradient_N / torch.where(sum_N == 0, 1.0, sum_N)


def finite_shift(largest_N1: Tensor) -> Tensor:
    """-inf, the largest of rows without any finite logit, as the least number: no inf - inf."""
    return largest_N1.clamp(min=torch.finfo(largest_N1.dtype).min)


__all__ = [
    "Split",
    "SplitBuffers",
    "finite_shift",
    "gate_of_split",
    "guarded_logsumexp",
    "logits_gradient",
    "share_of",
    "split_in_place",
    "split_logits",
    "text_ce_of_split",
    "text_gate_of_split",
]
