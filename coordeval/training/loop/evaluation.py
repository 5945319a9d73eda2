"""The evaluation loss as one sum over one count, whatever batches and processes cut the set into.

Training divides a window's sums by the window's counts; here the window is the whole set. The same
weights on the same samples thus give the same number in both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.training.data.batches import to_device
from coordeval.training.diagnostics.observing import observer
from coordeval.training.diagnostics.totals import Totals, add_up
from coordeval.training.loop.window import add_counts, count_batch, count_names, gathered, reduced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from coordeval.training.loop.forward import ObjectiveForward
    from coordeval.training.losses.objective import Stage1Objective


@torch.no_grad()
def evaluate_objective(
    model: Any,
    forward: ObjectiveForward,
    objective: Stage1Objective,
    batches: Iterable[Mapping[str, Any]],
    *,
    coord_ids_K: Tensor | None,
    accelerator: Any,
    on_batch: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, float | None]:
    """Loss, every term's mean, diagnostics and counts over all batches of all processes.

    Keys as in training (`loss`, `loss/<term>`, `coord_diag/*`, `tokens/<term>`), without a prefix.
    Terms over nothing are None; a set without anything to teach has loss 0. Every process must
    hand over equally many batches. The model's mode is put back as it was.
    """
    started = time.monotonic()
    names = objective.denominator_names
    ones = dict.fromkeys(names, 1.0)
    counts: list[dict[str, int]] = []
    totals: list[Totals] = []
    sums_S = np.zeros(len(names))
    mode = model.training
    model.eval()
    try:
        for batch in batches:
            on_batch(batch)
            counts.append(count_batch(objective, batch))
            placed = to_device(batch, accelerator.device)
            watch = None if coord_ids_K is None else observer(placed, coord_ids_K, totals)
            computed = forward(model, placed, ones, observe=watch)
            sums_S += [float(computed.terms[name].loss_sum) for name in names]
    finally:
        model.train(mode)
    counted = count_names(objective)
    own = add_counts(counted, counts)
    together = add_up(totals)
    summed = reduced(
        np.concatenate([sums_S, [own[name] for name in counted], together.sums]), accelerator
    )
    ends = len(names), len(names) + len(counted)
    of = dict(zip(counted, (int(value) for value in summed[ends[0] : ends[1]]), strict=True))
    means = _means(objective, dict(zip(names, summed[: ends[0]].tolist(), strict=True)), of)
    out = means | {name: of[name] for name in counted if name != "stop"}
    if coord_ids_K is not None:
        errors = gathered(together.abs_errors, accelerator)
        out |= Totals(sums=summed[ends[1] :], abs_errors=errors).metrics()
    return out | {"seconds": time.monotonic() - started}


def _means(
    objective: Stage1Objective, sums: Mapping[str, float], counts: Mapping[str, int]
) -> dict[str, float | None]:
    """`loss` and `loss/<term>` from sums over the set."""
    loss = 0.0
    out: dict[str, float | None] = {}
    divisors = objective.divisors({name: counts[f"tokens/{name}"] for name in sums})
    for name, weight in objective.weights.items():
        count = counts[f"tokens/{name}"]
        loss += weight * sums[name] / max(divisors[name], 1)
        out[f"loss/{name}"] = sums[name] / count if count else None
    return {"loss": loss} | out


__all__ = ["evaluate_objective"]
