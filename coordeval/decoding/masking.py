# ruff: noqa: N803, N806 - tensors carry shape suffixes
"""Masks on logits: what a constraint does not allow becomes -inf.

B: rows of a batch, V: width of the logits, K: coordinate bins, R: masks kept on the device.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import torch

from coordeval.coords import NUM_BINS
from coordeval.decoding.coordinate_rules import ANY_BIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.decoding.constraint import Constraint, ConstraintState
    from coordeval.decoding.coordinate_rules import Bins

_TABLE_BYTES = 64 << 20
_LEAST_ROWS = 16
_GATHERED_LOGITS = 1 << 17
_FREE, _ENDED = -1, -2  # rows of answers without a constraint, and behind their end


class LogitMasker:
    """Applies one constraint to batches of logits on one device.

    Keeps the masks of the states met last as rows of one bounded table of ceilings (+inf where a
    token is allowed, -inf where not), because the minimum of two float tensors is several times
    faster than a masked fill.
    """

    def __init__(self, constraint: Constraint, device: torch.device | str) -> None:
        self._constraint = constraint
        self._device = torch.device(device)
        self._width = constraint.table.vocab_size
        self._rows: OrderedDict[int, int] = OrderedDict()
        self._ceilings_RV: torch.Tensor | None = None
        ids = constraint.table.coords.token_ids
        self._first = ids[0] if constraint.table.coords.is_contiguous else None
        self._coord_ids_K = torch.tensor(ids, device=self._device)
        self._bins_K = np.arange(NUM_BINS)

    def __call__(
        self,
        logits_BV: torch.Tensor,
        states: Sequence[ConstraintState | None],
        *,
        inplace: bool = False,
    ) -> torch.Tensor:
        """Logits (B, V) with -inf where a row's state does not allow the token.

        Rows whose state is None stay as they are; a finished state leaves the end tokens. NaN
        stays NaN. `inplace` writes into `logits_BV` and returns it; else it is left alone. Raises
        ValueError where the batch or the vocabulary has another size than the states.
        """
        if logits_BV.shape != (len(states), self._width):
            raise ValueError(
                f"logits of shape {tuple(logits_BV.shape)} do not fit {len(states)} states over "
                f"{self._width} tokens"
            )
        out_BV = logits_BV if inplace else torch.empty_like(logits_BV)
        keys = [
            _FREE if state is None else _ENDED if state.finished else state.state
            for state in states
        ]
        if all(key == _FREE for key in keys):
            return logits_BV if inplace else logits_BV.clone()
        rows = self._table_rows(keys, logits_BV.dtype)
        ceilings_RV = self._ceilings_RV
        assert ceilings_RV is not None
        if self._device.type == "cpu" and logits_BV.numel() > _GATHERED_LOGITS:
            for index, row in enumerate(rows):  # spares a copy of whole rows of ceilings
                torch.minimum(logits_BV[index], ceilings_RV[row], out=out_BV[index])
        else:
            rows_B = torch.tensor(rows).to(self._device, non_blocking=True)
            torch.minimum(logits_BV, ceilings_RV.index_select(0, rows_B), out=out_BV)
        self._narrow(out_BV, states)
        return out_BV

    def _narrow(self, logits_BV: torch.Tensor, states: Sequence[ConstraintState | None]) -> None:
        """Forbid the bins that the coordinates before them rule out."""
        narrow: list[tuple[int, Bins]] = []
        for index, state in enumerate(states):
            bins = None if state is None else state.bins()
            if bins is not None and bins is not ANY_BIN and bins != ANY_BIN:
                narrow.append((index, bins))
        if not narrow:
            return
        lows = np.array([[bins.low] for _, bins in narrow])
        highs = np.array([[bins.high] for _, bins in narrow])
        buts = np.array([[bins.but] for _, bins in narrow])
        bins_K = self._bins_K
        forbidden = (bins_K < lows) | (bins_K > highs) | (bins_K == buts)
        forbidden_NK = torch.from_numpy(forbidden).to(self._device, non_blocking=True)
        indices_N1 = torch.tensor([[index] for index, _ in narrow]).to(self._device)
        if self._first is not None and len(narrow) == 1:
            at = narrow[0][0]
            block = logits_BV[at : at + 1, self._first : self._first + NUM_BINS]
            block.masked_fill_(forbidden_NK, -torch.inf)
            return
        chosen_NK = logits_BV[indices_N1, self._coord_ids_K]
        chosen_NK.masked_fill_(forbidden_NK, -torch.inf)
        logits_BV[indices_N1, self._coord_ids_K] = chosen_NK

    def _table_rows(self, keys: Sequence[int], dtype: torch.dtype) -> list[int]:
        """Rows of the table that hold the masks of `keys`, made where they are missing."""
        table = self._ceilings_RV
        distinct = set(keys)
        if table is None or table.dtype != dtype or len(table) < len(distinct):
            row_bytes = self._width * torch.finfo(dtype).bits // 8
            size = max(_LEAST_ROWS, len(distinct), _TABLE_BYTES // row_bytes)
            table = torch.empty((size, self._width), dtype=dtype, device=self._device)
            self._ceilings_RV = table
            self._rows.clear()
        rows = self._rows
        missing = []
        for key in distinct:
            if key in rows:
                rows.move_to_end(key)
            else:
                missing.append(key)
        for key in missing:
            row = len(rows) if len(rows) < len(table) else rows.popitem(last=False)[1]
            rows[key] = row
            table[row] = self._ceiling(key, dtype)
        return [rows[key] for key in keys]

    def _ceiling(self, key: int, dtype: torch.dtype) -> torch.Tensor:
        if key == _FREE:
            return torch.full((self._width,), torch.inf, dtype=dtype)
        mask = self._constraint.end_mask() if key == _ENDED else self._constraint.mask(key)
        ceiling = torch.full((self._width,), -torch.inf, dtype=dtype)
        return ceiling.masked_fill_(torch.from_numpy(mask), torch.inf)


__all__ = ["LogitMasker"]
