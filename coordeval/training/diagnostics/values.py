"""The coordinate diagnostics of stage 1: what a model's distribution says at each position.

They are taken at temperature 1, against a Gaussian target of sigma 2 bins truncated at 16 bins,
whatever a model was trained with, so that the numbers of any two models compare.

Shapes: N supervised positions, C coordinate slots among them, L slots with a true bin, V
vocabulary, K bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from coordeval.training.losses.gate import gate_per_slot
from coordeval.training.losses.hard_ce import hard_ce_per_slot
from coordeval.training.losses.soft_ce import soft_ce_per_slot
from coordeval.training.losses.targets import gaussian_target
from coordeval.training.losses.w1 import w1_per_slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SIGMA_BINS = 2.0
TRUNCATE_BINS = 16
TOP = 5
# A second mode holds at least this share of the probability, and the valley before it at most
# half of what the second mode holds (both within TRUNCATE_BINS of a bin).
LEAST_MODE_MASS = 0.2
VALLEY = 0.5

NO_BIN = -1
COORDINATE, DESCRIPTION, STRUCTURE = 0, 1, 2
MOST_ROWS = 1 << 12
CHUNK_NUMBERS = 1 << 24
"""Logits that are turned into float32 at a time (64 MiB), whatever batch and vocabulary are."""


class Targets(NamedTuple):
    """What stands at N supervised positions.

    `labels_N`: token ids. `kinds_N`: COORDINATE (a slot), DESCRIPTION or STRUCTURE. `bins_N`: the
    true bin of a slot; NO_BIN at text, and at a slot where no coordinate stands. Positions that
    are not supervised (prompt, padding) are left out before.
    """

    labels_N: Tensor
    kinds_N: Tensor
    bins_N: Tensor

    def rows(self, chosen: slice | Tensor) -> Targets:
        """Some of the positions."""
        return Targets(self.labels_N[chosen], self.kinds_N[chosen], self.bins_N[chosen])


class SlotValues(NamedTuple):
    """What the distribution is at C coordinate slots, all (C,), floats unless said otherwise.

    `coord_mass`: probability of all coordinate tokens; `gate`: its negative log; `flip` (bool): the
    most probable token is no coordinate; `expected_bin` and `top_bin` (int64): of the bins among
    themselves; `multimodal` (bool): see `multimodal_slots`. `bins`: the true bin, or NO_BIN, and
    then the rest is 0: `abs_err` |expected bin - true bin| and `w1_to_delta` E|bin - true bin| in
    bins, `p_gt` the true bin's probability among the bins, `top5` (bool), `margin` the largest bin
    logit less the true bin's, `soft_ce`, `w1` and `ce` as the losses of these names.
    """

    bins: Tensor
    coord_mass: Tensor
    gate: Tensor
    flip: Tensor
    expected_bin: Tensor
    top_bin: Tensor
    multimodal: Tensor
    abs_err: Tensor
    w1_to_delta: Tensor
    p_gt: Tensor
    top5: Tensor
    margin: Tensor
    soft_ce: Tensor
    w1: Tensor
    ce: Tensor


class Diagnosis(NamedTuple):
    """N positions: `kinds_N`, whether the most probable token is the label, P(coordinate token).

    `slots` holds the COORDINATE positions in their order.
    """

    kinds_N: Tensor
    correct_N: Tensor
    coord_mass_N: Tensor
    to_coord_N: Tensor
    slots: SlotValues

    def split(self, lengths: Sequence[int]) -> list[Diagnosis]:
        """Cut into consecutive pieces of so many positions each."""
        is_slot_N = self.kinds_N == COORDINATE
        out, start, slot = [], 0, 0
        for length in lengths:
            end = start + length
            slot_end = slot + int(is_slot_N[start:end].sum())
            out.append(
                Diagnosis(
                    self.kinds_N[start:end],
                    self.correct_N[start:end],
                    self.coord_mass_N[start:end],
                    self.to_coord_N[start:end],
                    SlotValues(*(column[slot:slot_end] for column in self.slots)),
                )
            )
            start, slot = end, slot_end
        return out

    def only_slots(self, chosen_C: Tensor) -> Diagnosis:
        """The chosen slots (a mask over C) alone, without any text."""
        is_slot_N = self.kinds_N == COORDINATE
        return Diagnosis(
            self.kinds_N[is_slot_N][chosen_C],
            self.correct_N[is_slot_N][chosen_C],
            self.coord_mass_N[is_slot_N][chosen_C],
            self.to_coord_N[is_slot_N][chosen_C],
            SlotValues(*(column[chosen_C] for column in self.slots)),
        )

    def cpu(self) -> Diagnosis:
        """The same in the machine's own memory."""
        return Diagnosis(
            self.kinds_N.cpu(),
            self.correct_N.cpu(),
            self.coord_mass_N.cpu(),
            self.to_coord_N.cpu(),
            SlotValues(*(column.cpu() for column in self.slots)),
        )


def targets_from_labels(
    labels_N: Tensor, coord_ids_K: Tensor, is_description_N: Tensor | None = None
) -> Targets:
    """Targets by labels alone, as training knows them: a slot is where a coordinate token stands.

    Other positions are DESCRIPTION where the mask says so, else STRUCTURE.
    """
    num_ids = 1 + int(torch.cat([labels_N, coord_ids_K]).max())
    bin_of_id = torch.full((num_ids,), NO_BIN, device=labels_N.device)
    bin_of_id[coord_ids_K] = torch.arange(coord_ids_K.numel(), device=labels_N.device)
    bins_N = torch.where(labels_N < 0, NO_BIN, bin_of_id[labels_N.clamp(min=0)])
    is_coord_N = bins_N != NO_BIN
    kinds_N = torch.full_like(labels_N, STRUCTURE)
    if is_description_N is not None:
        kinds_N[is_description_N] = DESCRIPTION
    kinds_N[is_coord_N] = COORDINATE
    return Targets(labels_N, kinds_N, bins_N)


@torch.no_grad()
def diagnose(
    logits_NV: Tensor,
    targets: Targets,
    coord_ids_K: Tensor,
    *,
    chunk_numbers: int = CHUNK_NUMBERS,
) -> Diagnosis:
    """Diagnose N positions; row n of the logits is the model's prediction of label n.

    `coord_ids_K[k]` is the token id of bin k. Logits of any float type. The arithmetic is
    float32 over the vocabulary and float64 over the bins, on at most `chunk_numbers` logits at a
    time (one position at least), so that no float copy of all logits is made. No positions give
    empty tensors. Raises ValueError where the shapes do not fit or a slot's bin is not on the
    grid.
    """
    num_positions, vocabulary = logits_NV.shape
    if targets.labels_N.shape[0] != num_positions:
        raise ValueError(f"{num_positions} rows of logits for {targets.labels_N.shape[0]} labels")
    step = max(1, min(chunk_numbers // vocabulary, MOST_ROWS))
    parts = [
        _diagnose_rows(
            logits_NV[start : start + step].float(),
            targets.rows(slice(start, start + step)),
            coord_ids_K,
        )
        for start in range(0, max(num_positions, 1), step)
    ]
    return joined(parts)


def joined(parts: list[Diagnosis]) -> Diagnosis:
    """Several diagnoses as one, in their order; ValueError for none."""
    if not parts:
        raise ValueError("nothing to join")
    if len(parts) == 1:
        return parts[0]
    return Diagnosis(
        kinds_N=torch.cat([part.kinds_N for part in parts]),
        correct_N=torch.cat([part.correct_N for part in parts]),
        coord_mass_N=torch.cat([part.coord_mass_N for part in parts]),
        to_coord_N=torch.cat([part.to_coord_N for part in parts]),
        slots=SlotValues(
            *(torch.cat(columns) for columns in zip(*(part.slots for part in parts), strict=True))
        ),
    )


def _diagnose_rows(logits_NV: Tensor, targets: Targets, coord_ids_K: Tensor) -> Diagnosis:
    top_id_N = logits_NV.argmax(dim=1)
    to_coord_N = torch.isin(top_id_N, coord_ids_K)
    is_slot_N = targets.kinds_N == COORDINATE
    logits_CV = logits_NV[is_slot_N]
    gate_C = gate_per_slot(logits_CV, coord_ids_K)
    slots = _slot_values(
        logits_CV[:, coord_ids_K].double(),
        targets.bins_N[is_slot_N],
        gate_C,
        ~to_coord_N[is_slot_N],
    )
    # The mass of text is mostly tiny: a difference of two logsumexps is exact enough there, and
    # spares a copy of the logits. At a slot it is the leak that is tiny, which the gate keeps.
    text_NV = logits_NV[~is_slot_N]
    coord_mass_N = torch.empty_like(logits_NV[:, 0])
    coord_mass_N[is_slot_N] = slots.coord_mass
    coord_mass_N[~is_slot_N] = torch.exp(
        torch.logsumexp(text_NV[:, coord_ids_K], dim=1) - torch.logsumexp(text_NV, dim=1)
    )
    return Diagnosis(
        kinds_N=targets.kinds_N,
        correct_N=top_id_N == targets.labels_N,
        coord_mass_N=coord_mass_N,
        to_coord_N=to_coord_N,
        slots=slots,
    )


def _slot_values(
    coord_logits_CK: Tensor, bins_C: Tensor, gate_C: Tensor, flip_C: Tensor
) -> SlotValues:
    probs_CK = torch.softmax(coord_logits_CK, dim=1)
    bins_K = torch.arange(coord_logits_CK.shape[1], device=coord_logits_CK.device)
    known_C = bins_C != NO_BIN
    values = _against_bins(coord_logits_CK[known_C], probs_CK[known_C], bins_C[known_C])

    def spread(values_L: Tensor) -> Tensor:
        out = torch.zeros(len(bins_C), dtype=values_L.dtype, device=bins_C.device)
        out[known_C] = values_L
        return out

    return SlotValues(
        bins=bins_C,
        coord_mass=torch.exp(-gate_C),
        gate=gate_C,
        flip=flip_C,
        expected_bin=(probs_CK * bins_K).sum(dim=1),
        top_bin=coord_logits_CK.argmax(dim=1),
        multimodal=multimodal_slots(probs_CK),
        **{name: spread(value) for name, value in values.items()},
    )


def _against_bins(logits_LK: Tensor, probs_LK: Tensor, bins_L: Tensor) -> dict[str, Tensor]:
    """The values that need a true bin; distances are summed around it, where sums are finest."""
    target_LK = gaussian_target(
        bins_L,
        sigma=SIGMA_BINS,
        truncate=TRUNCATE_BINS,
        num_bins=logits_LK.shape[1],
        dtype=logits_LK.dtype,
    )
    offset_LK = torch.arange(logits_LK.shape[1], device=bins_L.device)[None, :] - bins_L[:, None]
    true_logit_L1 = logits_LK.gather(1, bins_L[:, None])
    return {
        "abs_err": (probs_LK * offset_LK).sum(dim=1).abs(),
        "w1_to_delta": (probs_LK * offset_LK.abs()).sum(dim=1),
        "p_gt": probs_LK.gather(1, bins_L[:, None])[:, 0],
        # Bins tied with the true one do not push it out.
        "top5": (logits_LK > true_logit_L1).sum(dim=1) < TOP,
        "margin": (logits_LK.amax(dim=1, keepdim=True) - true_logit_L1)[:, 0],
        "soft_ce": soft_ce_per_slot(logits_LK, target_LK),
        "w1": w1_per_slot(logits_LK, target_LK),
        "ce": hard_ce_per_slot(logits_LK, bins_L),
    }


def multimodal_slots(probs_CK: Tensor) -> Tensor:
    """Whether a distribution over bins has a second mode: (C,) bool.

    With m(k) the probability within 16 bins of bin k and a the bin of the largest m: some bin b has
    m(b) >= 0.2, and between a and b m falls to m(b) / 2 or less. Then the expected bin lies where
    neither mode is. A distribution with one peak, however wide, has none.
    """
    num_slots, num_bins = probs_CK.shape
    cdf_CK = torch.cat([probs_CK.new_zeros(num_slots, 1), probs_CK.cumsum(dim=1)], dim=1)
    bins_K = torch.arange(num_bins, device=probs_CK.device)
    mass_CK = (
        cdf_CK[:, (bins_K + TRUNCATE_BINS + 1).clamp(max=num_bins)]
        - cdf_CK[:, (bins_K - TRUNCATE_BINS).clamp(min=0)]
    )
    peak_C1 = mass_CK.argmax(dim=1, keepdim=True)
    second_C = torch.zeros(num_slots, dtype=torch.bool, device=probs_CK.device)
    for direction in (1, -1):
        beyond_CK = (bins_K[None, :] - peak_C1) * direction >= 0
        valley_CK = mass_CK.masked_fill(~beyond_CK, torch.inf)
        if direction == -1:
            valley_CK = valley_CK.flip(1).cummin(dim=1).values.flip(1)
        else:
            valley_CK = valley_CK.cummin(dim=1).values
        second_CK = beyond_CK & (mass_CK >= LEAST_MODE_MASS) & (valley_CK <= VALLEY * mass_CK)
        second_C |= second_CK.any(dim=1)
    return second_C


__all__ = [
    "COORDINATE",
    "DESCRIPTION",
    "NO_BIN",
    "SIGMA_BINS",
    "STRUCTURE",
    "TOP",
    "TRUNCATE_BINS",
    "Diagnosis",
    "SlotValues",
    "Targets",
    "diagnose",
    "joined",
    "multimodal_slots",
    "targets_from_labels",
]
