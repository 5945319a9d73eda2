"""First values for the rows of new coordinate tokens: near bins start out alike.

Shape legend: K coordinate bins, H hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

from coordeval.coords import NUM_BINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RowInit = Literal["fourier", "digits"]
ROW_INITS: tuple[RowInit, ...] = ("fourier", "digits")

# Wave lengths of the Fourier features, in bins: from the whole range and more down to neighbours.
LONGEST_BINS = 2 * NUM_BINS
SHORTEST_BINS = 25


def fourier_rows(hidden: int, *, row_norm: float, seed: int = 0) -> Tensor:
    """Rows (K, H) float32: Fourier features of the bin, spread over all channels.

    Cosines and sines of H/2 frequencies, geometric between wave lengths of 2,000 and 25 bins,
    turned by a seeded random rotation (so that no channel means one frequency), each row of norm
    `row_norm`. The dot product of two rows depends on their distance alone and falls with it
    (Tancik et al., 2020). ValueError for a width below 2.
    """
    if hidden < 2:
        raise ValueError("Fourier features need a width of at least 2")
    half = hidden // 2
    waves = torch.logspace(
        math.log10(LONGEST_BINS), math.log10(SHORTEST_BINS), half, dtype=torch.float64
    )
    phases_KF = torch.arange(NUM_BINS, dtype=torch.float64)[:, None] * math.tau / waves
    rows_KH = torch.zeros(NUM_BINS, hidden, dtype=torch.float64)
    rows_KH[:, :half] = phases_KF.cos()
    rows_KH[:, half : 2 * half] = phases_KF.sin()
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(
        torch.randn(hidden, hidden, dtype=torch.float64, generator=generator)
    ).Q
    scaled_KH: Tensor = rows_KH @ rotation * (row_norm / math.sqrt(half))
    return scaled_KH.float()


def digit_rows(table_VH: Tensor, digit_ids: Sequence[int]) -> Tensor:
    """Rows (K, H) float32: linear interpolation between the rows of the digits 0 to 9.

    Bin k stands at 9 k / 999 on the line of the digits: bin 0 is the row of `0`, bin 999 that of
    `9`. ValueError where there are not ten digit ids.
    """
    if len(digit_ids) != 10:
        raise ValueError("interpolation needs the ids of the ten digits")
    digits_DH = table_VH[list(digit_ids)].float()
    place_K = torch.arange(NUM_BINS, dtype=torch.float64) * 9 / (NUM_BINS - 1)
    low_K = place_K.floor().long().clamp(max=8)
    share_K1 = (place_K - low_K)[:, None].float()
    return digits_DH[low_K] * (1 - share_K1) + digits_DH[low_K + 1] * share_K1


def mean_row_norm(table_VH: Tensor, rows: int) -> float:
    """Mean Euclidean norm of the first `rows` rows, those of the old vocabulary."""
    total = 0.0
    for start in range(0, rows, 8192):  # a table of 8 B models does not fit twice in float32
        block_BH = table_VH[start : min(start + 8192, rows)].float()
        total += float(block_BH.norm(dim=-1).double().sum())
    return total / max(rows, 1)


__all__ = ["ROW_INITS", "RowInit", "digit_rows", "fourier_rows", "mean_row_norm"]
