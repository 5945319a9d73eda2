"""The values of one optimizer step as `train_log.jsonl` names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordeval.training.loop.window import Finished, Window


def step_row(
    window: Window, finished: Finished, *, accumulation: int, seconds: float
) -> dict[str, Any]:
    """Terms, counts, diagnostics and throughput of a finished window.

    `loss/<term>` are unweighted means (null over nothing), `tokens/<term>` their denominators.
    `seconds` are those of the step: forward and backward passes of its micro-batches, data
    loading and optimizer left out; throughput is over all processes.
    """
    counts = window.counts
    row: dict[str, Any] = {"loss": finished.loss}
    row |= finished.means(window.denominators)
    row |= counts
    row["accum/grad_steps"] = accumulation
    if finished.totals is not None:
        row |= finished.totals.metrics()
    row["seconds"] = seconds
    if seconds > 0:
        row["tokens_per_second"] = counts["input_tokens"] / seconds
        row["samples_per_second"] = counts["samples"] / seconds
    return row


def learning_rates_now(optimizer: Any) -> dict[str, float]:
    """`lr` of the first group, and `lr/<group>` of each where there are several.

    To be asked before a step: the schedule sets the next step's rates right after it.
    """
    groups = optimizer.param_groups
    out = {"lr": float(groups[0]["lr"])}
    if len(groups) > 1:
        names = (str(group.get("name", place)) for place, group in enumerate(groups))
        out |= {f"lr/{name}": float(group["lr"]) for name, group in zip(names, groups, strict=True)}
    return out


__all__ = ["learning_rates_now", "step_row"]
