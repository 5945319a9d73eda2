"""Diagnoses of every taught position, also of those that no term of an objective looks at.

Channel A takes the text of iteration 0 and the slots of the last one; what it leaves out is
multiplied with the head once more, without gradient, where a step is diagnosed.

Shapes: N taught positions, n of a chunk, H hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from coordeval.training.diagnostics.observing import observer
from coordeval.training.diagnostics.values import CHUNK_NUMBERS
from coordeval.training.losses.head import linear_head
from coordeval.training.losses.term import widened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from coordeval.training.diagnostics.totals import Totals


class FullDiagnosis:
    """An `observe` for `Stage1Objective.compute` that sees each position once; `rest` does others.

    `totals` are what it saw, chunk by chunk.
    """

    def __init__(self, batch: Mapping[str, Any], coord_ids_K: Tensor, num_positions: int) -> None:
        self.totals: list[Totals] = []
        self._observe = observer(batch, coord_ids_K, self.totals)
        self._left_N = torch.ones(num_positions, dtype=torch.bool, device=batch["labels"].device)

    def __call__(self, rows_n: Tensor, logits_nV: Tensor) -> None:
        """Take in a chunk's logits, but not positions that were seen before."""
        fresh_n = self._left_N[rows_n]
        self._left_N[rows_n] = False
        if bool(fresh_n.all()):
            self._observe(rows_n, logits_nV)
        else:
            self._observe(rows_n[fresh_n], logits_nV[fresh_n])

    @torch.no_grad()
    def rest(self, hidden_NH: Tensor, head: Any) -> None:
        """Diagnose what was not seen, from hidden states, chunk by chunk."""
        rows = torch.nonzero(self._left_N)[:, 0]
        if not len(rows):
            return
        linear = linear_head(head)
        vocabulary = getattr(head, "out_features", 1 << 18)
        if linear is not None:
            vocabulary = linear.weight_VH.shape[0]
        for rows_n in torch.split(rows, max(1, CHUNK_NUMBERS // int(vocabulary))):
            hidden_nH = hidden_NH.index_select(0, rows_n)
            if linear is not None and not torch.is_autocast_enabled(hidden_nH.device.type):
                hidden_nH = hidden_nH.to(linear.weight_VH.dtype)
            self(rows_n, widened(head(hidden_nH)))


__all__ = ["FullDiagnosis"]
