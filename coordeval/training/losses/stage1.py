"""The stage-1 objective: which terms apply at which positions, and how they are weighed.

On logits that are there as a whole, for the small loop of the tiny models; `objective` does the
same and more for training proper, without them.

Shapes: N positions (shifted: row n predicts label n), C coordinate slots among them, V
vocabulary, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.gate import gate
from coordeval.training.losses.hard_ce import hard_ce
from coordeval.training.losses.soft_ce import soft_ce
from coordeval.training.losses.targets import gaussian_target
from coordeval.training.losses.text_ce import text_ce
from coordeval.training.losses.w1 import w1

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from coordeval.training.losses.term import LossTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage1Weights:
    """Weight of each term; 0 leaves the term out."""

    text_ce: float = 1.0
    hard_ce: float = 0.0
    soft_ce: float = 1.0
    w1: float = 1.0
    gate: float = 1.0


def stage1_terms(
    logits_NV: Tensor,
    labels_N: Tensor,
    coord_ids_K: Tensor,
    *,
    weights: Stage1Weights,
    sigma: float,
    truncate: int | None = None,
    temperature: float = 1.0,
) -> dict[str, LossTerm]:
    """All terms with a weight, by name: text CE off the coordinate slots, the others on them.

    `labels_N` are token ids of supervised positions; `coord_ids_K[k]` is the id of bin k. The
    coordinate logits are cut out once and shared. Formulas and empty-input behaviour: see the
    terms' own files.
    """
    bin_of_id_V = torch.full((logits_NV.shape[1],), -1, device=labels_N.device)
    bin_of_id_V[coord_ids_K] = torch.arange(coord_ids_K.numel(), device=labels_N.device)
    bins_N = bin_of_id_V[labels_N]
    is_coord_N = bins_N >= 0
    logits_CV, bins_C = logits_NV[is_coord_N], bins_N[is_coord_N]
    coord_logits_CK = logits_CV[:, coord_ids_K].float()
    target_CK = gaussian_target(
        bins_C, sigma=sigma, truncate=truncate, num_bins=coord_ids_K.numel()
    )
    terms: dict[str, LossTerm] = {}
    if weights.text_ce:
        terms["text_ce"] = text_ce(logits_NV, labels_N, ~is_coord_N)
    if weights.hard_ce:
        terms["hard_ce"] = hard_ce(coord_logits_CK, bins_C)
    if weights.soft_ce:
        terms["soft_ce"] = soft_ce(coord_logits_CK, target_CK, temperature=temperature)
    if weights.w1:
        terms["w1"] = w1(coord_logits_CK, target_CK, temperature=temperature)
    if weights.gate:
        terms["gate"] = gate(logits_CV, coord_ids_K, temperature=temperature)
    return terms


def weighted_total(
    terms: Mapping[str, LossTerm],
    weights: Stage1Weights,
    denominators: Mapping[str, int] | None = None,
) -> Tensor:
    """Sum over the terms of weight * sum / denominator; a scalar with gradient.

    `denominators` are counts over a whole optimizer step, where it spans several batches; without
    them each term is divided by its own count. A denominator of 0 counts as 1 (the sum is then 0).
    Raises ValueError without any term.
    """
    if not terms:
        raise ValueError("no loss term has a weight")
    weight_of = {field.name: float(getattr(weights, field.name)) for field in fields(weights)}
    parts = [
        weight_of[name] * term.loss_sum / ((denominators or {}).get(name, term.num_tokens) or 1)
        for name, term in terms.items()
    ]
    return torch.stack(parts).sum()


__all__ = ["Stage1Weights", "stage1_terms", "weighted_total"]
