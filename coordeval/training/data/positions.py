"""The one place where labels are shifted: which hidden state predicts which taught token.

Shapes: B rows, L columns, N taught positions of the batch in reading order, M boxes, U unlikely
tokens.
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
    `weights_N` (float32) weigh the text, `unlikely_U2` are pairs of an index into N and the id of a
    token that is to be less probable there; None where the batch has none. A position that only
    has an unlikely token is one of the N, with the label -100.
    """

    states_N: Tensor
    labels_N: Tensor
    kinds_N: Tensor
    boxes_M4: Tensor
    weights_N: Tensor | None = None
    unlikely_U2: Tensor | None = None


def shifted(batch: Mapping[str, Tensor]) -> Shifted:
    """Shift what a batch of the collator's teaches: labels, kinds, boxes, weights, unlikely tokens.

    The state at column i predicts the label at column i + 1 of its row; in packed rows too, since
    every sample begins with a prompt, which is not taught. Without taught positions everything is
    empty. Raises ValueError for a label or an unlikely token in the first column, which nothing
    predicts, and for a box slot that is not taught.
    """
    labels_BL, kinds_BL = batch["labels"], batch["token_kinds"]
    taught_BL = labels_BL != IGNORE_LABEL
    if bool(taught_BL[:, :1].any()):
        raise ValueError("a label in the first column has no state that predicts it")
    taught = taught_BL.flatten()
    slots_M4 = batch["box_slots"]
    if not bool(taught[slots_M4].all()):
        raise ValueError("a box slot stands where nothing is taught")
    weights_BL, unlikely_U2 = batch.get("token_weights"), batch.get("unlikely")
    wanted = taught
    if unlikely_U2 is not None:
        if bool((unlikely_U2[:, 0] % labels_BL.shape[1] == 0).any()):
            raise ValueError("an unlikely token in the first column has no state that predicts it")
        wanted = taught.index_fill(0, unlikely_U2[:, 0], value=True)
    flat_N = torch.nonzero(wanted).squeeze(1)
    place = torch.cumsum(wanted, 0) - 1
    return Shifted(
        states_N=flat_N - 1,
        labels_N=labels_BL.flatten()[flat_N],
        kinds_N=kinds_BL.flatten()[flat_N],
        boxes_M4=place[slots_M4],
        weights_N=None if weights_BL is None else weights_BL.flatten()[flat_N],
        unlikely_U2=None if unlikely_U2 is None else _placed(unlikely_U2, place),
    )


def _placed(unlikely_U2: Tensor, place: Tensor) -> Tensor:
    """Pairs whose flat positions are replaced by their places among the N."""
    flat_U, tokens_U = unlikely_U2.unbind(1)
    return torch.stack([place[flat_U], tokens_U], dim=1)


__all__ = ["Shifted", "shifted"]
