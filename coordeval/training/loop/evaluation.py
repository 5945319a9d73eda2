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
from coordeval.training.diagnostics.totals import Totals, add_up
from coordeval.training.loop.step_rows import diagnoses
from coordeval.training.loop.window import (
    add_counts,
    count_batch,
    count_names,
    gathered,
    plain,
    reduced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coordeval.training.loop.channel import Diagnosed
    from coordeval.training.loop.teacher_forced import TeacherForced


@torch.no_grad()
def evaluate_channel(
    model: Any,
    channel: TeacherForced,
    batches: Iterable[Mapping[str, Any]],
    *,
    accelerator: Any,
    on_batch: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, float | None]:
    """Loss, every term's mean, diagnostics and counts over all batches of all processes.

    Keys as in training (`loss`, `loss/<term>`, `coord_diag/*`, `tokens/<term>`), without a prefix.
    Terms over nothing are None; a set without anything to teach has loss 0. Every process must
    hand over equally many batches. The model's mode is put back as it was.
    """
    started = time.monotonic()
    names = channel.names
    ones = dict.fromkeys(names, 1.0)
    counts: list[dict[str, float]] = []
    taken: Diagnosed = {at: [] for at in channel.diagnosed_at}
    sums_S = np.zeros(len(names))
    mode = model.training
    model.eval()
    try:
        for batch in batches:
            on_batch(batch)
            counts.append(count_batch(channel, batch))
            placed = to_device(batch, accelerator.device)
            computed = channel(model, placed, ones, diagnosed=taken)
            sums_S += [float(computed.terms[name].loss_sum) for name in names]
    finally:
        model.train(mode)
    counted = count_names(channel)
    own = add_counts(counted, counts)
    parts = [sums_S, np.array([own[name] for name in counted], dtype=np.float64)]
    together = {at: add_up(found) for at, found in taken.items()}
    parts += [totals.sums for totals in together.values()]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    summed = np.split(reduced(np.concatenate(parts), accelerator), ends)
    of = dict(zip(counted, (plain(value) for value in summed[1]), strict=True))
    out = _means(channel, dict(zip(names, summed[0].tolist(), strict=True)), of)
    out |= {name: of[name] for name in counted if name != "stop"}
    for (at, totals), sums in zip(together.items(), summed[2:], strict=True):
        errors = gathered(totals.abs_errors, accelerator)
        out |= diagnoses(Totals(sums=sums, abs_errors=errors), at)
    return out | {"seconds": time.monotonic() - started}


def _means(
    channel: TeacherForced, sums: Mapping[str, float], counts: Mapping[str, float]
) -> dict[str, float | None]:
    """`loss` and `loss/<term>` from sums over the set."""
    loss = 0.0
    out: dict[str, float | None] = {}
    divisors = channel.divisors({name: counts[f"tokens/{name}"] for name in sums})
    for name, weight in channel.weights.items():
        count = counts[f"tokens/{name}"]
        loss += weight * sums[name] / (divisors[name] or 1)
        out[f"loss/{name}"] = sums[name] / count if count else None
    return {"loss": loss} | out


__all__ = ["evaluate_channel"]
