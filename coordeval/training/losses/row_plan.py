"""Which positions an objective works on, in an order that keeps the slots of a box together.

Shapes: N positions, R of them worked on, M boxes, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

IGNORED = -100
NO_BIN = -1
BOX_SLOTS = 4


class RowPlan(NamedTuple):
    """R positions in working order: text, then the slots of boxes four by four, then other slots.

    `rows_R` are their places among the N positions, `labels_R` token ids, `bins_R` the true bin
    of a slot (-1 at text), `gated_R` (bool) whether the text gate applies. `weights_R` weigh the
    cross-entropy of text rows; None: each counts 1.
    """

    rows_R: Tensor
    labels_R: Tensor
    bins_R: Tensor
    gated_R: Tensor
    num_text: int
    num_boxes: int
    weights_R: Tensor | None = None

    def __len__(self) -> int:
        return int(self.rows_R.shape[0])

    def part(self, start: int, stop: int) -> RowPlan:
        """Rows `start` to `stop` as a plan of their own; neither end may stand inside a box."""
        text = min(max(self.num_text - start, 0), stop - start)
        last_box = self.num_text + BOX_SLOTS * self.num_boxes
        box_slots = max(min(stop, last_box) - max(start, self.num_text), 0)
        here = slice(start, stop)
        return RowPlan(
            self.rows_R[here],
            self.labels_R[here],
            self.bins_R[here],
            self.gated_R[here],
            text,
            box_slots // BOX_SLOTS,
            None if self.weights_R is None else self.weights_R[here],
        )

    def chunks(self, size: int) -> Iterator[RowPlan]:
        """Parts of at most `size` rows, or four where a box would be split; none for R = 0."""
        last_box = self.num_text + BOX_SLOTS * self.num_boxes
        start = 0
        while start < len(self):
            stop = min(start + size, len(self))
            if self.num_text < stop < last_box:
                stop -= (stop - self.num_text) % BOX_SLOTS
                stop = max(stop, start + BOX_SLOTS) if stop <= start else stop
            yield self.part(start, stop)
            start = stop


class PositionTable:
    """Tells text, slots and end tokens apart by their labels, on whatever device these are."""

    def __init__(self, coord_ids_K: Tensor, end_ids: Tensor) -> None:
        largest = int(torch.cat([coord_ids_K, end_ids]).max())
        bin_of_id = torch.full((largest + 2,), NO_BIN)
        bin_of_id[coord_ids_K] = torch.arange(coord_ids_K.numel())
        is_end = torch.zeros(largest + 2, dtype=torch.bool)
        is_end[end_ids] = True
        self._bin_of_id, self._is_end = bin_of_id, is_end

    def bins(self, labels_N: Tensor) -> Tensor:
        """Bin of each label; -1 where it is no coordinate token, ignored positions included."""
        return self._to(labels_N)[0][self._place(labels_N)]

    def gated(self, labels_N: Tensor) -> Tensor:
        """Whether the text gate applies: supervised, no coordinate, no end token."""
        bin_of_id, is_end = self._to(labels_N)
        place_N = self._place(labels_N)
        return (labels_N != IGNORED) & (bin_of_id[place_N] == NO_BIN) & ~is_end[place_N]

    def taught(self, labels_N: Tensor, text_weights_N: Tensor | None) -> Tensor:
        """The labels without text of weight 0, which is as good as not supervised."""
        if text_weights_N is None:
            return labels_N
        nothing_N = (text_weights_N == 0) & (self.bins(labels_N) == NO_BIN)
        return labels_N.masked_fill(nothing_N, IGNORED)

    def plan(
        self,
        labels_N: Tensor,
        box_slots_M4: Tensor | None,
        *,
        text: bool,
        slots: bool,
        text_weights_N: Tensor | None = None,
    ) -> RowPlan:
        """The positions to work on; `text` and `slots` say which kinds any term asks for.

        Raises ValueError where a box's slot is outside the positions, holds no coordinate label, or
        belongs to two boxes.
        """
        bins_N = self.bins(labels_N)
        is_slot_N = bins_N != NO_BIN
        text_rows = torch.nonzero((labels_N != IGNORED) & ~is_slot_N)[:, 0]
        parts = [text_rows if text else text_rows[:0]]
        num_boxes = 0
        if slots:
            if box_slots_M4 is not None and box_slots_M4.numel():
                box_rows = _checked_slots(box_slots_M4.to(labels_N.device), is_slot_N)
                num_boxes = box_slots_M4.shape[0]
                parts.append(box_rows)
                is_slot_N = is_slot_N.index_fill(0, box_rows, value=False)
            parts.append(torch.nonzero(is_slot_N)[:, 0])
        rows_R = torch.cat(parts)
        labels_R = labels_N[rows_R]
        return RowPlan(
            rows_R,
            labels_R,
            bins_N[rows_R],
            self.gated(labels_R),
            len(parts[0]),
            num_boxes,
            None if text_weights_N is None else text_weights_N[rows_R],
        )

    def _place(self, labels_N: Tensor) -> Tensor:
        # The last place of the tables is one beyond every known id and stands for all other ids.
        last = self._bin_of_id.shape[0] - 1
        return torch.where(labels_N < 0, last, labels_N).clamp(max=last)

    def _to(self, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        if self._bin_of_id.device != labels_N.device:
            self._bin_of_id = self._bin_of_id.to(labels_N.device)
            self._is_end = self._is_end.to(labels_N.device)
        return self._bin_of_id, self._is_end


def _checked_slots(box_slots_M4: Tensor, is_slot_N: Tensor) -> Tensor:
    """The slots of all boxes in a row, (4 M,)."""
    if box_slots_M4.ndim != 2 or box_slots_M4.shape[1] != BOX_SLOTS:
        raise ValueError(f"boxes are four slots each, not {tuple(box_slots_M4.shape)}")
    slots = box_slots_M4.reshape(-1)
    if not 0 <= int(slots.min()) <= int(slots.max()) < len(is_slot_N):
        raise ValueError(f"a box's slot is outside the {len(is_slot_N)} positions")
    if not bool(is_slot_N[slots].all()):
        raise ValueError("a box's slot holds no coordinate label")
    if torch.unique(slots).numel() != slots.numel():
        raise ValueError("a slot belongs to two boxes")
    return slots


__all__ = ["BOX_SLOTS", "IGNORED", "NO_BIN", "PositionTable", "RowPlan"]
