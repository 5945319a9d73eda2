"""What stands in the input where a coordinate stood: embeddings made from a slot's own logits.

Five kinds, each with the gradients that make sense for it (`CONTEXT_GRADIENTS`): mixtures of the
bins' embeddings (`expected`, `top_k`, `gumbel_softmax`) and single ones that are picked (`argmax`,
`rounded_expectation`). Pure functions, float32 inside.

Shapes: C coordinate slots, K bins, H hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from coordeval.training.losses.term import LossTerm, widened

if TYPE_CHECKING:
    from torch import Tensor

    from coordeval.training.stage2.config import ContextConfig

PICKS = ("argmax", "rounded_expectation")


def context_embeddings(
    logits_CK: Tensor,
    rows_KH: Tensor,
    context: ContextConfig,
    *,
    noise_CK: Tensor | None = None,
) -> Tensor:
    """Embeddings (C, H) that a slot's logits over the bins make of the bins' embeddings.

    With p = softmax(z / T): `expected` is sum_k p_k E_k, `top_k` the same over the k most probable
    bins, renormalised (all of them where k exceeds K), `gumbel_softmax` with
    p = softmax((z + noise) / T) (Jang et al., 2017). `argmax` is the row of the largest logit (the
    first of equals), `rounded_expectation` the row round(E_p[k]), halves to the even bin.

    `soft` is the mixture's own gradient, to logits and rows; `stop` gives none at all;
    `straight_through` (Bengio et al., 2013) has the value of one row, to the last bit, and the
    gradient of the mixture: of `expected` for the two picks, of the noisy mixture for
    `gumbel_softmax`, whose row is then that of the largest noisy logit. Float32, or float64 where
    either comes in it; no slots give (0, H). Raises ValueError for shapes that do not fit and for
    `gumbel_softmax` without noise.
    """
    _check(logits_CK, rows_KH, context, noise_CK)
    with torch.autocast(rows_KH.device.type, enabled=False):
        dtype = torch.promote_types(widened(logits_CK).dtype, rows_KH.dtype)
        logits_CK, rows_KH = logits_CK.to(dtype), rows_KH.to(dtype)
        if context.backward == "stop":
            with torch.no_grad():
                return _value(logits_CK, rows_KH, context, noise_CK)
        if context.backward == "soft":
            return _mixture(logits_CK, rows_KH, context, noise_CK)
        with torch.no_grad():
            value_CH = _value(logits_CK, rows_KH, context, noise_CK)
        soft_CH = _mixture(logits_CK, rows_KH, context, noise_CK)
        out_CH: Tensor = _StraightThrough.apply(soft_CH, value_CH)  # type: ignore[no-untyped-call]
        return out_CH


def bin_probabilities(
    logits_CK: Tensor, context: ContextConfig, *, noise_CK: Tensor | None = None
) -> Tensor:
    """The mixture's weights (C, K), which add up to 1; for the two picks those of `expected`."""
    if context.kind == "gumbel_softmax":
        assert noise_CK is not None
        logits_CK = logits_CK + noise_CK.to(logits_CK)
    scaled_CK = logits_CK / context.temperature
    if context.kind == "top_k" and context.top_k < logits_CK.shape[1]:
        kept = scaled_CK.detach().topk(context.top_k, dim=1).indices
        others_CK = torch.ones_like(scaled_CK, dtype=torch.bool).scatter(1, kept, value=False)
        scaled_CK = scaled_CK.masked_fill(others_CK, float("-inf"))
    return torch.softmax(scaled_CK, dim=1)


def picked_bins(
    logits_CK: Tensor, context: ContextConfig, *, noise_CK: Tensor | None = None
) -> Tensor:
    """The bin (C,) whose row a pick, or `gumbel_softmax` straight through, stands for."""
    if context.kind == "rounded_expectation":
        probs_CK = bin_probabilities(logits_CK, context)
        bins_K = torch.arange(logits_CK.shape[1], dtype=probs_CK.dtype, device=probs_CK.device)
        # Logits that are no numbers are the loss's to report, not an index error's.
        expected_C = torch.nan_to_num((probs_CK * bins_K).sum(dim=1))
        return expected_C.round().long()
    if context.kind == "gumbel_softmax":
        assert noise_CK is not None
        logits_CK = logits_CK + noise_CK.to(logits_CK)
    return logits_CK.argmax(dim=1)


@torch.no_grad()
def nearest_distances(context_CH: Tensor, rows_KH: Tensor) -> Tensor:
    """L2 distance (C,) of each embedding to the nearest of the rows; exactly 0 for a row itself.

    Raises ValueError without any row.
    """
    if not rows_KH.shape[0]:
        raise ValueError("there is no row to be near to")
    with torch.autocast(rows_KH.device.type, enabled=False):
        context_CH, rows_KH = widened(context_CH), widened(rows_KH)
        # |c - e|^2 = |c|^2 - 2 c e + |e|^2 cancels: in float64, around the rows' centre, the row
        # that it finds is the nearest one, and only the distance to that one is then computed.
        centre_H = rows_KH.double().mean(dim=0)
        around_CH, around_KH = context_CH.double() - centre_H, rows_KH.double() - centre_H
        squares_K = around_KH.square().sum(dim=1)
        nearest_C = (squares_K - 2.0 * around_CH @ around_KH.T).argmin(dim=1)
        distance_C: Tensor = (context_CH - rows_KH[nearest_C]).square().sum(dim=1).sqrt()
        return distance_C


def off_manifold(context_CH: Tensor, rows_KH: Tensor) -> LossTerm:
    """Sum and count of `nearest_distances`, without gradient; no embeddings give 0 and 0."""
    return LossTerm(nearest_distances(context_CH, rows_KH).sum(), context_CH.shape[0])


def _value(
    logits_CK: Tensor, rows_KH: Tensor, context: ContextConfig, noise_CK: Tensor | None
) -> Tensor:
    """What stands in the input: one row of each slot, or its mixture."""
    if context.kind in PICKS or context.backward == "straight_through":
        return rows_KH[picked_bins(logits_CK, context, noise_CK=noise_CK)]
    return _mixture(logits_CK, rows_KH, context, noise_CK)


def _mixture(
    logits_CK: Tensor, rows_KH: Tensor, context: ContextConfig, noise_CK: Tensor | None
) -> Tensor:
    return bin_probabilities(logits_CK, context, noise_CK=noise_CK) @ rows_KH


def _check(
    logits_CK: Tensor, rows_KH: Tensor, context: ContextConfig, noise_CK: Tensor | None
) -> None:
    if logits_CK.ndim != 2 or rows_KH.ndim != 2 or logits_CK.shape[1] != rows_KH.shape[0]:
        raise ValueError(
            f"logits (C, K) and rows (K, H), not {tuple(logits_CK.shape)} and "
            f"{tuple(rows_KH.shape)}"
        )
    if context.kind != "gumbel_softmax":
        return
    if noise_CK is None or noise_CK.shape != logits_CK.shape:
        given = "none" if noise_CK is None else tuple(noise_CK.shape)
        raise ValueError(f"gumbel_softmax needs noise {tuple(logits_CK.shape)}, not {given}")


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor, the gradient of another.

    Not value + (soft - soft): that loses the sign of a zero, and a number to an infinity.
    """

    @staticmethod
    def forward(ctx: Any, soft_CH: Tensor, value_CH: Tensor) -> Tensor:  # noqa: ARG004
        return value_CH.clone()

    @staticmethod
    def backward(ctx: Any, upstream_CH: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return upstream_CH, None


__all__ = [
    "PICKS",
    "bin_probabilities",
    "context_embeddings",
    "nearest_distances",
    "off_manifold",
    "picked_bins",
]
