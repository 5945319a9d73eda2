"""The block of a score about slots, loop guard and other samples: only what the run recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box

from coordeval.counted import counted
from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.guard_metrics import GUARD_KINDS, OTHER_KIND
from coordeval.metrics.tables import headline_row
from coordeval.reports.formats import number, percent
from coordeval.reports.number_table import NumberTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordeval.metrics.result import ScoreResult

Row = tuple[str, str, str]


def control_table(result: ScoreResult) -> NumberTable:
    """One table with up to three parts; no rows for a run that recorded none of them."""
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_text("control and samples")
    table.add_number()
    table.add_text()
    metrics = result.metrics
    parts: list[list[Row]] = []
    if result.slots is not None:
        parts.append(list(_slots(metrics)))
    if result.guarded:
        parts.append(list(_guard(metrics)))
    if result.oracle is not None:
        thresholds = result.scored.aware.thresholds
        parts.append(
            list(_oracle(metrics, iou_name(thresholds[headline_row(result.scored.aware)])))
        )
    for part in parts:
        for row in part:
            table.add_row(*row)
        table.add_section()
    return table


def _slots(metrics: dict[str, Any]) -> Iterator[Row]:
    low = f"5 % below {number(metrics['slot/mass_p05'])}, least {number(metrics['slot/mass_min'])}"
    bound = metrics["slot/mass_bound_max"]
    if bound:
        low += f"; up to {number(bound)} more"
    yield "coordinate mass", number(metrics["slot/mass_mean"]), low
    yield (
        "slots where control was lost",
        percent(metrics["slot/control_lost_rate"]),
        (
            f"of {number(metrics['slot/total'])}; "
            f"mass below .50: {percent(metrics['slot/mass_below_0.50_rate'])}"
        ),
    )
    yield (
        "slots without a coordinate",
        percent(metrics["slot/foreign_rate"]),
        (
            f"mass there {number(metrics['slot/mass_foreign'])}, "
            f"elsewhere {number(metrics['slot/mass_kept'])}"
        ),
    )
    yield (
        "mass, first to last record",
        number(metrics["slot/mass_first_record"]),
        f"to {number(metrics['slot/mass_last_record'])}",
    )


def _guard(metrics: dict[str, Any]) -> Iterator[Row]:
    kinds = [
        f"{kind} {number(metrics[f'guard/kind/{kind}'])}"
        for kind in (*GUARD_KINDS, OTHER_KIND)
        if metrics[f"guard/kind/{kind}"]
    ]
    yield "marked by the loop guard", number(metrics["guard/marked"]), ", ".join(kinds)
    yield (
        "stopped by the loop guard",
        number(metrics["guard/stopped"]),
        f"{counted(metrics['guard/tokens_saved'], 'token')} saved",
    )


def _oracle(metrics: dict[str, Any], at: str) -> Iterator[Row]:
    key = f"oracle/{at}"
    yield (
        f"missed at IoU {at[1:]}",
        number(metrics[f"{key}/missed"]),
        f"{number(metrics['oracle/samples_per_image'], 1)} other samples per image",
    )
    yield (
        "found by another sample",
        percent(metrics[f"{key}/recoverable_rate"]),
        f"{number(metrics[f'{key}/recoverable'])}; by none {number(metrics[f'{key}/systematic'])}",
    )
    yield (
        "recall, all samples together",
        number(metrics[f"{key}/recall_union"]),
        (
            f"headline {number(metrics[f'{key}/recall'])}, "
            f"another sample {number(metrics[f'{key}/recall_sample'])}"
        ),
    )
    yield (
        "F1, best sample per image",
        number(metrics[f"{key}/f1_best"]),
        f"another sample {number(metrics[f'{key}/f1_sample'])}",
    )


__all__ = ["control_table"]
