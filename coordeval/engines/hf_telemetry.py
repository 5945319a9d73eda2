# ruff: noqa: N803, N806 - tensors carry shape suffixes
"""The model's own distribution at every step of a batch, reduced on the device to a few numbers.

Which steps are coordinate slots is only known from what was written: everything is noted, and the
slots are selected afterwards.

Shape legend: B rows, V vocabulary, K coordinate bins, N numbers per step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from coordeval.records import SlotReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordeval.coords import CoordVocabulary
    from coordeval.decoding.slots import SlotPlace


class SlotRecorder:
    """Notes six numbers per row and step, in float64.

    Mass, entropy and top bin come from the K coordinate logits in float64 and the log of the whole
    sum in float32; no second copy of the logits is made where the coordinate ids are contiguous.
    """

    def __init__(self, coords: CoordVocabulary, device: torch.device) -> None:
        self._ids_K = torch.tensor(coords.token_ids, device=device)
        self._first = coords.token_ids[0] if coords.is_contiguous else None
        self._steps: list[torch.Tensor] = []

    def note(self, logits_BV: torch.Tensor, log_sum_B: torch.Tensor) -> None:
        """Note one step; `log_sum_B` is the logsumexp of the raw `logits_BV`."""
        log_sum_B = log_sum_B.double()
        coords_BK = logits_BV.index_select(-1, self._ids_K).double()
        top_B, top_bin_B = coords_BK.max(dim=-1)
        other_B, other_id_B = self._best_other(logits_BV)
        numbers = (
            (coords_BK.logsumexp(dim=-1) - log_sum_B).exp().clamp(max=1.0),
            top_bin_B.double(),
            (top_B - log_sum_B).exp().clamp(max=1.0),
            torch.special.entr(coords_BK.softmax(dim=-1)).sum(dim=-1),
            other_id_B.double(),
            (other_B.double() - log_sum_B).exp().clamp(max=1.0),
        )
        self._steps.append(torch.stack(numbers, dim=-1))

    def _best_other(self, logits_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logit and id of the most probable token outside the coordinates; ties: the smaller id."""
        if self._first is None:
            return logits_BV.index_fill(-1, self._ids_K, -torch.inf).max(dim=-1)
        behind = self._first + len(self._ids_K)
        if self._first == 0:
            best_B, id_B = logits_BV[:, behind:].max(dim=-1)
            return best_B, id_B + behind
        best_B, id_B = logits_BV[:, : self._first].max(dim=-1)
        if behind == logits_BV.shape[-1]:
            return best_B, id_B
        later_B, later_id_B = logits_BV[:, behind:].max(dim=-1)
        better_B = later_B > best_B
        return (
            torch.where(better_B, later_B, best_B),
            torch.where(better_B, later_id_B + behind, id_B),
        )

    def readings(
        self, rows: Iterable[Iterable[SlotPlace]], text_of: Callable[[int], str]
    ) -> list[list[SlotReading]]:
        """The readings at each row's places; `text_of` gives the text of a token id."""
        if not self._steps:
            return [[] for _ in rows]
        steps_BSN = torch.stack(self._steps, dim=1).cpu().tolist()
        return [
            [_reading(place, numbers[place.token], text_of) for place in places]
            for places, numbers in zip(rows, steps_BSN, strict=True)
        ]


def _reading(place: SlotPlace, numbers: list[float], text_of: Callable[[int], str]) -> SlotReading:
    """One slot's numbers; those of an impossible choice (probability 0) are not known."""
    mass, top_bin, top_prob, entropy, other_id, other_prob = numbers
    some, others = mass > 0.0, other_prob > 0.0
    return SlotReading(
        token=place.token,
        record=place.record,
        slot=place.slot,
        kind=place.kind,
        written_id=place.written_id,
        written_bin=place.written_bin,
        coord_mass=mass,
        mass_bound=0.0,
        top_bin=int(top_bin) if some else None,
        top_prob=top_prob,
        entropy=entropy if some and math.isfinite(entropy) else None,
        other_id=int(other_id) if others else None,
        other_text=text_of(int(other_id)) if others else None,
        other_prob=other_prob,
    )


__all__ = ["SlotRecorder"]
