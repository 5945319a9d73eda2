"""The soft target of a coordinate slot: a Gaussian over the bins around the true one.

Shapes: N slots, K bins.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from coordeval.coords import NUM_BINS

if TYPE_CHECKING:
    from torch import Tensor


def gaussian_target(
    bins_N: Tensor,
    *,
    sigma: float,
    truncate: int | None = None,
    num_bins: int = NUM_BINS,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Probabilities (N, K) with q_k proportional to exp(-((k - bin) / sigma)^2 / 2).

    Zero where |k - bin| > `truncate` (None: nowhere); renormalised over the bins that exist, so
    that bins near the border are not mirrored. `sigma` (in bins) 0 gives one-hot rows. No
    slots give a (0, K) tensor. Raises ValueError for a negative sigma or truncation and for
    bins outside 0..K-1.
    """
    if not sigma >= 0 or not math.isfinite(sigma):
        raise ValueError(f"sigma must be finite and >= 0, not {sigma}")
    if truncate is not None and truncate < 0:
        raise ValueError(f"truncate must be >= 0, not {truncate}")
    if bins_N.numel() and not 0 <= int(bins_N.min()) <= int(bins_N.max()) < num_bins:
        raise ValueError(f"target bins must lie in 0..{num_bins - 1}")
    bins_K = torch.arange(num_bins, device=bins_N.device)
    distance_NK = (bins_K[None, :] - bins_N[:, None]).abs()
    if sigma == 0:
        return (distance_NK == 0).to(dtype)
    weights_NK = torch.exp(-0.5 * (distance_NK.double() / sigma) ** 2)
    if truncate is not None:
        weights_NK = weights_NK.masked_fill(distance_NK > truncate, 0.0)
    return (weights_NK / weights_NK.sum(dim=1, keepdim=True)).to(dtype)


__all__ = ["gaussian_target"]
