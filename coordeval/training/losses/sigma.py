"""How wide the soft target of a coordinate is at a step of a training that narrows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.training.config import ObjectiveConfig


def sigma_at(config: ObjectiveConfig, step: int) -> float:
    """Sigma in bins for the optimizer step that `step` others came before (the first: 0).

    `sigma` at step 0, `sigma_end` from step `sigma_steps` on, between them
    sigma * (sigma_end / sigma) ** (step / sigma_steps): the same factor at every step. Always
    `sigma` without `sigma_end`. It depends on the step alone, and so survives a resume. Raises
    ValueError for a negative step.
    """
    if step < 0:
        raise ValueError(f"steps are counted from 0, not {step}")
    if config.sigma_end is None or step == 0:
        return config.sigma
    if step >= config.sigma_steps:
        return config.sigma_end
    return config.sigma * math.pow(config.sigma_end / config.sigma, step / config.sigma_steps)


__all__ = ["sigma_at"]
