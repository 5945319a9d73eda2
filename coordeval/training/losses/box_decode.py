"""Four coordinate slots read as one box: the decodes that the box losses work on.

Shapes: M boxes of four slots each (x1, y1, x2, y2), K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from coordeval.training.losses.term import widened

if TYPE_CHECKING:
    from torch import Tensor

BoxDecode = Literal["expectation", "argmax", "straight_through"]


def decode_boxes(
    logits_M4K: Tensor, *, decode: BoxDecode = "expectation", temperature: float = 1.0
) -> Tensor:
    """Coordinates (M, 4) of the whole range 0..1 out of the bins' logits; (0, 4) for no boxes.

    With p = softmax(logits / T): `expectation` is E_p[k] / (K - 1), smooth, and where p has two
    modes between them, where no box is (`coord_diag/multimodal_rate` counts such slots);
    `argmax` is the most probable bin / (K - 1), what greedy decoding writes, and has no gradient;
    `straight_through` has the value of `argmax` and the gradient of `expectation` (Bengio et al.,
    2013). The bins are compared among themselves: mass on other tokens is the gate's business.
    Corners are given as they come, inverted boxes too. Raises ValueError for an unknown decode,
    a temperature that is not positive, fewer than two bins, or slots that are not four.
    """
    if decode not in ("expectation", "argmax", "straight_through"):
        raise ValueError(f"unknown decode {decode!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if logits_M4K.ndim != 3 or logits_M4K.shape[1] != 4 or logits_M4K.shape[2] < 2:
        raise ValueError(f"logits of boxes are (M, 4, K >= 2), not {tuple(logits_M4K.shape)}")
    logits_M4K = widened(logits_M4K)
    last_bin = logits_M4K.shape[2] - 1
    hard_M4 = logits_M4K.detach().argmax(dim=2).to(logits_M4K.dtype) / last_bin
    if decode == "argmax":
        return hard_M4
    bins_K = torch.arange(last_bin + 1, dtype=logits_M4K.dtype, device=logits_M4K.device)
    # Not a matrix product, which autocast would take in half precision.
    probs_M4K = torch.softmax(logits_M4K / temperature, dim=2)
    soft_M4 = (probs_M4K * (bins_K / last_bin)).sum(dim=2)
    if decode == "expectation":
        return soft_M4
    # In this order the value is the argmax to the last bit: soft - soft is exactly 0.
    return hard_M4 + (soft_M4 - soft_M4.detach())


__all__ = ["BoxDecode", "decode_boxes"]
