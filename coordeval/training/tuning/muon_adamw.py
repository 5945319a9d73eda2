"""Muon for the hidden matrices, AdamW for the rest, and one schedule for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """Learning rates and their schedule: linear warm-up, then cosine down to `final_share`."""

    adamw_lr: float = 4e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.01
    warmup_steps: int = 30
    final_share: float = 0.02

    def share(self, step: int, total_steps: int) -> float:
        """Fraction of the learning rates at a step counted from 0."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps))))
        return warmup * (self.final_share + (1 - self.final_share) * cosine)


def build_optimizers(
    model: torch.nn.Module, settings: OptimizerSettings
) -> list[torch.optim.Optimizer]:
    """Muon over the 2-D weights inside the model; AdamW over embeddings, vectors and the rest.

    Embeddings and vectors are not decayed. The learning rates set here are the peak ones. Raises
    ImportError with torch older than 2.9, which has no Muon.
    """
    hidden, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        is_table = any(part in name for part in ("embed", "lm_head"))
        if parameter.ndim == 2 and not is_table:
            hidden.append(parameter)
        elif parameter.ndim > 2:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    if not hasattr(torch.optim, "Muon"):
        raise ImportError("training tiny models needs torch 2.9 or newer (torch.optim.Muon)")
    return [
        torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=settings.adamw_lr,
            betas=(0.9, 0.98),
        ),
        torch.optim.Muon(
            hidden,
            lr=settings.muon_lr,
            momentum=0.95,
            weight_decay=settings.weight_decay,
            adjust_lr_fn="original",
        ),
    ]


def set_learning_rates(
    optimizers: Sequence[torch.optim.Optimizer], settings: OptimizerSettings, share: float
) -> None:
    """Set every group to its peak learning rate times `share`."""
    for optimizer in optimizers:
        peak = settings.muon_lr if type(optimizer).__name__ == "Muon" else settings.adamw_lr
        for group in optimizer.param_groups:
            group["lr"] = peak * share


__all__ = ["OptimizerSettings", "build_optimizers", "set_learning_rates"]
