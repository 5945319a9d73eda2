"""A probe in the terminal: both contexts side by side, and what the difference is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.text import Text

from coordeval.counted import counted
from coordeval.dynamics.keys import key_info
from coordeval.reports.formats import percent
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable
from coordeval.training.diagnostics.totals import METRIC_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from coordeval.stats.changes import Change
    from coordeval.training.probe.result import ProbeResult

RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n")
STYLES = {"better": "green", "worse": "red", "differs": "bold", "~": "dim"}
CONTEXT_NAMES = {
    "ground_truth": "ground truth context",
    "own_rollout": "own rollout context",
}
ERRORS_SHOWN = 5
SMALL = 1e-3


def probe_report(result: ProbeResult) -> Group:
    """All sections; one context alone gets one plain table."""
    parts: list[RenderableType] = [_heading(result)]
    if result.exposure is None:
        parts.append(_single(result))
    else:
        exposure = result.exposure
        parts += [
            Text(
                f"exposure bias: the same {counted(exposure.boxes, 'box', 'boxes')} in both "
                "contexts (those that "
                "the rollout found at IoU 0.50),\nheld against the ground truth",
                style="bold",
            ),
            _pairs(exposure.same_boxes, result.contexts["ground_truth"].metrics),
            Text(),
            Text("all slots and all text tokens of both contexts", style="bold"),
            _pairs(exposure.all_tokens, None),
            Text(),
            _agreement(result),
        ]
    if result.errors:
        parts += [Text(), _errors(result)]
    if result.exposure is not None:
        draws = result.settings["bootstrap"]
        parts += [
            Text(),
            Text(
                "truth = ground truth context, rollout = own rollout context, difference = "
                f"rollout - truth;\npaired bootstrap over "
                f"{counted(result.exposure.images, 'image')}, "
                f"{counted(draws['draws'], 'draw')}, seed {draws['seed']};\n~ = not told apart: "
                "p > .05 after Benjamini-Hochberg over the table (an interval may leave out 0)",
                style="dim",
            ),
        ]
    return Group(*parts)


def _heading(result: ProbeResult) -> Text:
    settings = result.settings
    text = Text()
    text.append("probe  ", style="bold")
    text.append(printable(str(settings["checkpoint"]["path"])))
    text.append("\nrun    ", style="bold")
    text.append(printable(str(settings["run"]["path"])))
    if result.status != "complete":
        text.append(f"  [{result.status}]", style="bold yellow")
    text.append("\n")
    for context, part in result.contexts.items():
        text.append(
            f"{CONTEXT_NAMES[context]}: {counted(part.texts, 'text')}, "
            f"{counted(part.counts['tokens'], 'token')}, "
            f"{counted(part.counts['slots'], 'coordinate slot')}"
        )
        foreign = part.counts["slots"] - part.counts["bins"]
        if foreign:
            text.append(f" ({foreign:,} hold no coordinate)")
        text.append("\n")
    for reason, count in result.skipped.items():
        text.append(f"skipped: {counted(count, 'rollout')} ({reason.replace('_', ' ')})\n")
    for note in result.notes:
        text.append(f"note: {printable(note)}\n", style="yellow")
    return text


def _table(*headers: str) -> NumberTable:
    table = NumberTable(box=RULE, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for number, header in enumerate(headers):
        is_number = number > 0 and header not in {"95 % interval", "verdict"}
        (table.add_number if is_number else table.add_text)(header)
    return table


def _single(result: ProbeResult) -> NumberTable:
    ((context, part),) = result.contexts.items()
    table = _table("", CONTEXT_NAMES[context])
    for key in METRIC_KEYS:
        table.add_row(_label(key), _number(part.metrics[key], key_info(key).unit))
    return table


def _pairs(changes: Mapping[str, Change], whole: Mapping[str, float | None] | None) -> NumberTable:
    """One row per metric; `whole` are the ground truth context's values on all its slots."""
    first = ("all truth",) if whole is not None else ()
    table = _table("", *first, "truth", "rollout", "difference", "95 % interval", "verdict")
    for key, change in changes.items():
        unit = change.unit
        interval = ""
        if change.low is not None and change.high is not None:
            interval = f"[{_signed(change.low, unit)}, {_signed(change.high, unit)}]"
        cells = [] if whole is None else [_number(whole[key], unit)]
        verdict = change.verdict or "-"
        table.add_row(
            _label(key),
            *cells,
            _number(change.a, unit),
            _number(change.b, unit),
            "-" if change.delta is None else _signed(change.delta, unit),
            Text(interval),
            Text(verdict, style=STYLES.get(verdict, "")),
        )
    return table


def _agreement(result: ProbeResult) -> Text:
    """How often the most probable token is the written one; 100 % for greedy text of one's own."""
    shares = (
        f"{CONTEXT_NAMES[context]} {percent(part.metrics['token_acc'])}"
        for context, part in result.contexts.items()
    )
    return Text("the most probable token is the written one: " + ", ".join(shares))


def _label(key: str) -> str:
    unit = key_info(key).unit
    leaf = key.removeprefix("coord_diag/")
    return f"{leaf} ({unit})" if unit in {"bins", "nats"} else leaf


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit != "bins" and 0 < abs(value) < SMALL:
        return f"{value:.1e}"
    return f"{value:z,.{2 if unit == 'bins' else 4}f}"


def _signed(value: float, unit: str) -> str:
    text = _number(value, unit)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def _errors(result: ProbeResult) -> Text:
    text = Text()
    text.append(f"{counted(len(result.errors), 'text')} could not be probed\n", style="bold red")
    for error in result.errors[:ERRORS_SHOWN]:
        text.append(
            f"  {printable(error.id, limit=40)}, {CONTEXT_NAMES[error.context]}: "
            f"{printable(error.message, limit=160)}\n"
        )
    rest = len(result.errors) - ERRORS_SHOWN
    if rest > 0:
        text.append(f"  and {rest:,} more (all in probe.json)\n")
    return text


__all__ = ["CONTEXT_NAMES", "probe_report"]
