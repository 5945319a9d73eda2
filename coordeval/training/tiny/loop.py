"""The training loop of the tiny models: seeded, a few minutes on one core, no framework.

Shapes: B examples, L tokens, N supervised positions, V vocabulary, D patch values.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from coordeval.coords import CoordVocabulary
from coordeval.training.losses import Stage1Weights, stage1_terms, weighted_total
from coordeval.training.tuning.muon_adamw import (
    OptimizerSettings,
    build_optimizers,
    set_learning_rates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from coordeval.training.tiny.examples import Batch, Example, ExampleEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRecipe:
    """How a tiny model is trained: stage-1 terms whose soft targets narrow down on the way.

    The width of the soft targets falls geometrically from `sigma_start` to `sigma_end` bins over
    the first `sigma_share` of the steps. Each term's sum is divided by the number of all supervised
    tokens, so a coordinate weighs as much as a text token.
    """

    steps: int
    batch_size: int = 16
    weights: Stage1Weights = field(default_factory=lambda: Stage1Weights(w1=4.0))
    sigma_start: float = 40.0
    sigma_end: float = 2.0
    sigma_share: float = 0.6
    max_grad_norm: float = 1.0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    bfloat16: bool = True

    def sigma(self, step: int) -> float:
        """Width of the soft targets at a step counted from 0, in bins."""
        progress = min(1.0, step / max(1.0, self.sigma_share * self.steps))
        return float(self.sigma_start * (self.sigma_end / self.sigma_start) ** progress)


def train_tiny(
    model: Any,
    encoder: ExampleEncoder,
    recipe: TinyRecipe,
    draw: Callable[[int], Sequence[Example]],
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train in place; `draw(step)` gives a step's examples, `report(step, loss)` hears about it.

    Deterministic for a given number of threads where `draw` is. Raises FloatingPointError on a
    loss that is not finite. The model is left in eval mode.
    """
    coord_ids_K = torch.tensor(CoordVocabulary.from_tokenizer(encoder.tokenizer).token_ids)
    optimizers = build_optimizers(model, recipe.optimizer)
    stock_forward = _use_matrix_product_for_patches(model)
    model.train()
    try:
        for step in range(recipe.steps):
            share = recipe.optimizer.share(step, recipe.steps)
            set_learning_rates(optimizers, recipe.optimizer, share)
            batch = encoder.encode(draw(step))
            loss = _loss(model, batch, coord_ids_K, recipe, recipe.sigma(step))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at step {step}")
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if report is not None:
                report(step, value)
    finally:
        model.model.visual.patch_embed.forward = stock_forward
        model.eval()


def _loss(
    model: Any, batch: Batch, coord_ids_K: Tensor, recipe: TinyRecipe, sigma: float
) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
        hidden_BLH = model.model(**batch.inputs, use_cache=False).last_hidden_state
        # Logits only where something is taught: the vocabulary product is most of the work.
        taught_BL = batch.is_answer_BL[:, 1:]
        logits_NV = model.lm_head(hidden_BLH[:, :-1][taught_BL])
    labels_N = batch.inputs["input_ids"][:, 1:][taught_BL]
    terms = stage1_terms(
        logits_NV.float(), labels_N, coord_ids_K, weights=recipe.weights, sigma=sigma
    )
    return weighted_total(terms, recipe.weights, dict.fromkeys(terms, labels_N.numel()))


def _use_matrix_product_for_patches(model: Any) -> Any:
    """Replace the patch convolution (kernel = stride) by the same product as a matrix; faster.

    Returns the stock forward, to be put back after training.
    """
    embed = model.model.visual.patch_embed
    stock = embed.forward

    def forward(module: Any, patches_ND: Tensor) -> Tensor:
        weight = module.proj.weight
        flat = patches_ND.to(weight.dtype).reshape(-1, weight[0].numel())
        return functional.linear(flat, weight.flatten(1), module.proj.bias)

    embed.forward = types.MethodType(forward, embed)
    return stock


__all__ = ["TinyRecipe", "train_tiny"]
