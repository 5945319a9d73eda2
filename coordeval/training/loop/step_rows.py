"""The values of one optimizer step as `train_log.jsonl` names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.training.loop.window import plain

if TYPE_CHECKING:
    from coordeval.training.diagnostics.totals import Totals
    from coordeval.training.loop.window import Finished, Window

DIAGNOSES = "coord_diag/"


def step_row(
    window: Window, finished: Finished, *, accumulation: int, seconds: float
) -> dict[str, Any]:
    """Terms, counts, diagnostics and throughput of a finished window, for its channel alone.

    `loss/<term>` are unweighted means (null over nothing), `tokens/<term>` their denominators.
    Where there are several channels, `channel` names the one that ran.
    `seconds` are those of the step: forward and backward passes of its micro-batches, data
    loading and optimizer left out; throughput is over all processes.
    """
    counts = window.counts
    row: dict[str, Any] = {} if window.label is None else {"channel": window.label}
    row["loss"] = finished.loss
    row |= finished.means(window.denominators)
    row |= finished.values
    row |= {name: plain(count) for name, count in counts.items()}
    row["accum/grad_steps"] = accumulation
    for at, totals in (finished.totals or {}).items():
        row |= diagnoses(totals, at)
    row |= window.facts
    row["seconds"] = seconds
    if seconds > 0:
        row["tokens_per_second"] = counts["input_tokens"] / seconds
        row["samples_per_second"] = counts["samples"] / seconds
    return row


def diagnoses(totals: Totals, at: str) -> dict[str, float | None]:
    """Metrics of `Totals`, with where they were taken (`A1/`) in their names.

    `coord_diag/p_gt_mean` becomes `coord_diag/A1/p_gt_mean`, `token_acc` `token_acc/A1`.
    """
    if not at:
        return totals.metrics()
    return {
        DIAGNOSES + at + key.removeprefix(DIAGNOSES)
        if key.startswith(DIAGNOSES)
        else f"{key}/{at.rstrip('/')}": value
        for key, value in totals.metrics().items()
    }


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


__all__ = ["diagnoses", "learning_rates_now", "step_row"]
