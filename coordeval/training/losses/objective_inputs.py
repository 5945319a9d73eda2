"""What an objective is handed, checked: shapes, labels, weights of tokens, unlikely tokens.

Shapes: N positions, H hidden width, V vocabulary, U pairs of a position and a token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.row_plan import IGNORED
from coordeval.training.losses.slot_terms import TERM_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def checked_weights(given: Mapping[str, float]) -> dict[str, float]:
    """The terms' weights above 0, in the terms' order; ValueError where there is none."""
    unknown = sorted(set(given) - set(TERM_NAMES))
    if unknown:
        raise ValueError(f"unknown terms: {', '.join(unknown)}; there are {', '.join(TERM_NAMES)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given.values()):
        raise ValueError("weights must be finite and not negative")
    weights = {name: given[name] for name in TERM_NAMES if given.get(name)}
    if not weights:
        raise ValueError("no loss term has a weight")
    return weights


def check_shapes(hidden_NH: Tensor, labels_N: Tensor) -> None:
    """Raise ValueError unless there is one label for every row of hidden states."""
    if hidden_NH.ndim != 2 or labels_N.ndim != 1 or len(hidden_NH) != len(labels_N):
        raise ValueError(
            f"hidden states (N, H) and labels (N,), not {tuple(hidden_NH.shape)} and "
            f"{tuple(labels_N.shape)}"
        )


def check_labels(labels_N: Tensor, vocabulary: int | None) -> None:
    """Raise ValueError unless labels are ids of the vocabulary (None: not known) or -100."""
    if not labels_N.numel():
        return
    largest = int(labels_N.max())
    if vocabulary is not None and largest >= vocabulary:
        raise ValueError(f"label {largest} is beyond the head's {vocabulary} rows")
    if bool(((labels_N < 0) & (labels_N != IGNORED)).any()):
        raise ValueError(f"labels are token ids, or {IGNORED} where nothing is supervised")


def checked_text_weights(text_weights_N: Tensor | None, labels_N: Tensor) -> Tensor | None:
    """The weights beside the labels, as floats; ValueError unless finite and not negative."""
    if text_weights_N is None:
        return None
    if text_weights_N.shape != labels_N.shape:
        raise ValueError(
            f"text weights of shape {tuple(text_weights_N.shape)} for labels "
            f"{tuple(labels_N.shape)}"
        )
    weights_N = text_weights_N.detach().to(labels_N.device)
    if not weights_N.is_floating_point():
        weights_N = weights_N.float()
    if not bool((torch.isfinite(weights_N) & (weights_N >= 0)).all()):
        raise ValueError("text weights must be finite and not negative")
    return weights_N


def checked_unlikely(
    unlikely_U2: Tensor | None, labels_N: Tensor, vocabulary: int | None
) -> tuple[Tensor, Tensor]:
    """(Rows among the N, token ids), each (U,), beside the labels; empty for None.

    Raises ValueError for another shape, numbers that are not whole, rows outside the N, and ids
    that are negative or outside the vocabulary (None: not known).
    """
    if unlikely_U2 is None:
        return labels_N.new_empty(0, dtype=torch.long), labels_N.new_empty(0, dtype=torch.long)
    if unlikely_U2.ndim != 2 or unlikely_U2.shape[1] != 2 or unlikely_U2.is_floating_point():
        raise ValueError(
            f"unlikely tokens are pairs of a row and a token id, not {tuple(unlikely_U2.shape)} "
            f"of {unlikely_U2.dtype}"
        )
    rows_U, tokens_U = unlikely_U2.to(labels_N.device, torch.long).unbind(1)
    if rows_U.numel():
        if not 0 <= int(rows_U.min()) <= int(rows_U.max()) < len(labels_N):
            raise ValueError(f"an unlikely token's row is outside the {len(labels_N)} positions")
        smallest, largest = int(tokens_U.min()), int(tokens_U.max())
        if smallest < 0 or (vocabulary is not None and largest >= vocabulary):
            raise ValueError(f"unlikely tokens from {smallest} to {largest} leave the vocabulary")
    return rows_U, tokens_U


__all__ = [
    "check_labels",
    "check_shapes",
    "checked_text_weights",
    "checked_unlikely",
    "checked_weights",
]
