"""The one place where labels are shifted: which hidden state predicts which taught token.

Shapes: B rows, L columns, N taught positions of the batch in reading order, M boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from coordeval.training.data.labels import IGNORE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Shifted(NamedTuple):
    """Taught positions of a batch.

    `states_N`: flat indices (row * L + column) of the hidden states that predict `labels_N` (token
    ids), whose kinds are `kinds_N`. `boxes_M4`: indices into N of each box's four coordinates.
    """

    states_N: Tensor
    labels_N: Tensor
    kinds_N: Tensor
    boxes_M4: Tensor


def shifted(batch: Mapping[str, Tensor]) -> Shifted:
    """Shift a batch's `labels`, `token_kinds` and `box_slots` (as the collator gives them).

    The state at column i predicts the label at column i + 1 of its row; in packed rows too, since
    every sample begins with a prompt, which is not taught. Without taught positions everything is
    empty. Raises ValueError for a label in the first column, which nothing predicts, and for a
    box slot that is not taught.
    """
    labels_BL, kinds_BL = batch["labels"], batch["token_kinds"]
    taught_BL = labels_BL != IGNORE_LABEL
    if bool(taught_BL[:, :1].any()):
        raise ValueError("a label in the first column has no state that predicts it")
    taught = taught_BL.flatten()
    flat_N = torch.nonzero(taught).squeeze(1)
    slots_M4 = batch["box_slots"]
    if not bool(taught[slots_M4].all()):
        raise ValueError("a box slot stands where nothing is taught")
    return Shifted(
        states_N=flat_N - 1,
        labels_N=labels_BL.flatten()[flat_N],
        kinds_N=kinds_BL.flatten()[flat_N],
        boxes_M4=torch.cumsum(taught, 0)[slots_M4] - 1,
    )


__all__ = ["Shifted", "shifted"]
