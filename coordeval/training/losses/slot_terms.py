"""The sums of an objective's terms over a few positions, from their split rows of logits.

Shapes: N positions in working order (text, slots of boxes, other slots), T text positions, C
coordinate slots, M boxes, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.box_decode import BoxDecode, decode_boxes
from coordeval.training.losses.ciou import ciou_per_box
from coordeval.training.losses.giou import giou_per_box
from coordeval.training.losses.hard_ce import hard_ce_per_slot
from coordeval.training.losses.row_plan import BOX_SLOTS
from coordeval.training.losses.smooth_l1 import smooth_l1_per_box
from coordeval.training.losses.soft_ce import soft_ce_per_slot
from coordeval.training.losses.targets import gaussian_target
from coordeval.training.losses.vocabulary_split import (
    gate_of_split,
    text_ce_of_split,
    text_gate_of_split,
)
from coordeval.training.losses.w1 import w1_per_slot

if TYPE_CHECKING:
    from torch import Tensor

    from coordeval.training.losses.row_plan import RowPlan
    from coordeval.training.losses.vocabulary_split import Split

TEXT_TERMS = ("text_ce", "text_gate")
SLOT_TERMS = ("hard_ce", "soft_ce", "w1", "gate")
BOX_TERMS = ("smooth_l1", "ciou", "giou")
UNLIKELIHOOD = "unlikelihood"
TERM_NAMES = (*TEXT_TERMS, *SLOT_TERMS, *BOX_TERMS, UNLIKELIHOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermSettings:
    """What the terms are taken with; see each term's own file."""

    hard_ce_over_vocabulary: bool
    sigma: float
    truncate: int | None
    temperature: float
    box_decode: BoxDecode
    box_temperature: float
    box_beta: float


def term_sums(
    names: tuple[str, ...], split: Split, plan: RowPlan, settings: TermSettings
) -> Tensor:
    """Sum of each named term over the plan's rows, (len(names),), differentiable.

    A term without positions is 0 and still part of the graph; so is `unlikelihood`, whose
    positions stand in no plan.
    """
    coord_lse_N = torch.logsumexp(split.coord_NK, dim=1)
    sums = _text_sums(names, split, plan, coord_lse_N, settings)
    sums |= _slot_sums(names, split, plan, coord_lse_N, settings)
    sums |= _box_sums(names, split, plan, settings)
    sums[UNLIKELIHOOD] = split.others_N[:0].sum()
    return torch.stack([sums[name] for name in names])


def _text_sums(
    names: tuple[str, ...],
    split: Split,
    plan: RowPlan,
    coord_lse_N: Tensor,
    settings: TermSettings,
) -> dict[str, Tensor]:
    text = slice(0, plan.num_text)
    sums = {}
    if "text_ce" in names:
        others_T, coord_lse_T = split.others_N[text], coord_lse_N[text]
        ce_T = text_ce_of_split(others_T, coord_lse_T, split.label_T)
        if plan.weights_R is not None:
            ce_T = ce_T * plan.weights_R[text].to(ce_T.dtype)
        sums["text_ce"] = ce_T.sum()
    if "text_gate" in names:
        gated_T = plan.gated_R[text]
        coord_lse_G = _coord_lse(split, coord_lse_N, settings)[text][gated_T]
        others_G = split.others_at(settings.temperature)[text][gated_T]
        sums["text_gate"] = text_gate_of_split(others_G, coord_lse_G).sum()
    return sums


def _slot_sums(
    names: tuple[str, ...],
    split: Split,
    plan: RowPlan,
    coord_lse_N: Tensor,
    settings: TermSettings,
) -> dict[str, Tensor]:
    slots = slice(plan.num_text, None)
    logits_CK, bins_C = split.coord_NK[slots], plan.bins_R[slots]
    temperature = settings.temperature
    sums = {}
    if "hard_ce" in names:
        if settings.hard_ce_over_vocabulary:
            label_C = logits_CK.gather(1, bins_C[:, None])[:, 0]
            others_C, coord_lse_C = split.others_N[slots], coord_lse_N[slots]
            sums["hard_ce"] = text_ce_of_split(others_C, coord_lse_C, label_C).sum()
        else:
            sums["hard_ce"] = hard_ce_per_slot(logits_CK, bins_C).sum()
    if "gate" in names:
        coord_lse_C = _coord_lse(split, coord_lse_N, settings)[slots]
        sums["gate"] = gate_of_split(split.others_at(temperature)[slots], coord_lse_C).sum()
    if "soft_ce" in names or "w1" in names:
        target_CK = gaussian_target(
            bins_C,
            sigma=settings.sigma,
            truncate=settings.truncate,
            num_bins=logits_CK.shape[1],
            dtype=logits_CK.dtype,
        )
        if "soft_ce" in names:
            soft_C = soft_ce_per_slot(logits_CK, target_CK, temperature=temperature)
            sums["soft_ce"] = soft_C.sum()
        if "w1" in names:
            sums["w1"] = w1_per_slot(logits_CK, target_CK, temperature=temperature).sum()
    return sums


def _box_sums(
    names: tuple[str, ...], split: Split, plan: RowPlan, settings: TermSettings
) -> dict[str, Tensor]:
    if not any(name in names for name in BOX_TERMS):
        return {}
    slots = slice(plan.num_text, plan.num_text + BOX_SLOTS * plan.num_boxes)
    num_bins = split.coord_NK.shape[1]
    logits_M4K = split.coord_NK[slots].reshape(plan.num_boxes, BOX_SLOTS, num_bins)
    pred_M4 = decode_boxes(
        logits_M4K, decode=settings.box_decode, temperature=settings.box_temperature
    )
    bins_M4 = plan.bins_R[slots].reshape(plan.num_boxes, BOX_SLOTS)
    true_M4 = bins_M4.to(pred_M4.dtype) / (num_bins - 1)
    sums = {}
    if "smooth_l1" in names:
        sums["smooth_l1"] = smooth_l1_per_box(pred_M4, true_M4, beta=settings.box_beta).sum()
    if "ciou" in names:
        sums["ciou"] = ciou_per_box(pred_M4, true_M4).sum()
    if "giou" in names:
        sums["giou"] = giou_per_box(pred_M4, true_M4).sum()
    return sums


def _coord_lse(split: Split, coord_lse_N: Tensor, settings: TermSettings) -> Tensor:
    """Logsumexp over the bins at the settings' temperature; the one at T = 1 is shared."""
    if settings.temperature == 1.0:
        return coord_lse_N
    return torch.logsumexp(split.coord_NK / settings.temperature, dim=1)


__all__ = [
    "BOX_TERMS",
    "SLOT_TERMS",
    "TERM_NAMES",
    "TEXT_TERMS",
    "UNLIKELIHOOD",
    "TermSettings",
    "term_sums",
]
