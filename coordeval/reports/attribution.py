"""The attribution of one run in the terminal: costs in order and alone, and other runs beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.text import Text

from coordeval.reports.formats import number, percent, points, signed
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable
from coordeval.stats.settings import control_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from coordeval.metrics.attribution.against import Counterfactual
    from coordeval.metrics.attribution.attribution import Attribution, ErrorCost
    from coordeval.metrics.attribution.measure import Scores

_KEYS = {"f1/0.50/f1": "F1@.50", "f1/mean/f1": "F1mean", "coco/AP": "AP"}
_HEALTH = {
    "samples/conforming_rate": "conforming",
    "parse/drop_rate": "records dropped",
    "dup/exact_rate": "exact copies",
    "dup/loop_rate": "images with a loop",
    "samples/truncated_rate": "truncated",
}


def attribution_report(
    found: Attribution, *, name: str, against: Sequence[Counterfactual] = ()
) -> Group:
    """Everything that `coordeval attribute` prints, in points (score x 100)."""
    parts: list[RenderableType] = [_heading(found, name), _costs(found)]
    if _any(found.interaction) or any(_any(cost.interaction) for cost in found.costs):
        parts.append(_interactions(found))
    parts.append(_legend(found))
    parts += [_counterfactual(other) for other in against]
    return Group(*parts)


def _heading(found: Attribution, name: str) -> Text:
    text = Text(printable(name), style="bold")
    if found.status != "complete":
        text.append(f"  [{found.status}]", style="bold yellow")
    now = ", ".join(f"{label} {points(found.baseline[key])}" for key, label in _KEYS.items())
    left = ", ".join(f"{label} {points(found.distance[key])}" for key, label in _KEYS.items())
    text.append(f"\nscore now: {now}   (scores: {found.score_source})", style="dim")
    text.append(f"\nto explain: {left}", style="dim")
    return text


def _table(*headers: str) -> NumberTable:
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_text(headers[0])
    for header in headers[1:]:
        if header == "found":  # words stand beside these numbers: "40, 0 mendable"
            table.add_text(header, justify="right")
        else:
            table.add_number(header)
    return table


def _costs(found: Attribution) -> NumberTable:
    labels = list(_KEYS.values())
    table = _table(
        "error, in order",
        "found",
        *(f"in order\n{label}" for label in labels),
        *(f"alone\n{label}" for label in labels),
    )
    for cost in found.costs:
        if cost.count or _any(cost.in_order):
            cells = [*_signed(cost.in_order), *_signed(cost.alone)]
            table.add_row(cost.short_name, _found(cost), *cells)
    table.add_section()
    in_order = {key: _total(cost.in_order[key] for cost in found.costs) for key in _KEYS}
    alone = {key: _total(cost.alone[key] for cost in found.costs) for key in _KEYS}
    table.add_row("sum", "", *_signed(in_order), *_signed(alone), style="bold")
    return table


def _interactions(found: Attribution) -> NumberTable:
    """What earlier fixes change about each: in order - alone."""
    table = _table("interaction", *_KEYS.values())
    for cost in found.costs:
        if _any(cost.interaction):
            table.add_row(cost.short_name, *_signed(cost.interaction))
    table.add_section()
    table.add_row("sum", *_signed(found.interaction), style="bold")
    table.caption = "in order - alone: what the fixes before it change about each"
    table.caption_justify = "left"
    return table


def _found(cost: ErrorCost) -> str:
    if cost.repairable is None:
        return number(cost.count)
    return f"{number(cost.count)}, {number(cost.repairable)} mendable"


def _any(scores: Scores) -> bool:
    return any(abs(value) > 1e-9 for value in scores.values() if value is not None)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _signed(scores: Scores) -> list[str]:
    return [_points(scores[key]) for key in _KEYS]


def _points(value: float | None) -> str:
    """A difference in points; an exact 0 is a dot, so that the eye finds what matters."""
    if value is None:
        return "-"
    return "·" if abs(value) < 5e-7 else signed(100 * value, 2)


def _legend(found: Attribution) -> Text:
    text = Text(style="dim")
    for cost in found.costs:
        if cost.count or _any(cost.in_order):
            text.append(f"{cost.short_name}: {cost.description}\n")
    text.append(
        "points = score x 100. In order: each fix after those above it; the column sums to the "
        "distance to 100.\nAlone: this fix on the run as it is. t runs over .50:.95 for F1 mean "
        "and AP; found: at .50.\n"
    )
    gains = ", ".join(f"{name} {points(value)}" for name, value in found.tide.gain.items())
    text.append(f"TIDE at .50, as tidecv prints it: AP50 {points(found.tide.ap50)}; {gains}")
    return text


def _counterfactual(other: Counterfactual) -> Group:
    head = Text(f"\nmeasured against {printable(other.name)}", style="bold")
    facts = f"  {other.common} common images"
    for count, side in ((other.only_base, "only here"), (other.only_other, "only there")):
        facts += f", {count} {side}" if count else ""
    head.append(facts, style="dim")
    head.append(f"\nhere {_decoding(other.base_decode)}; there {_decoding(other.other_decode)}")
    scores = _table("", "here", "there", "bought", "left for training")
    for key, label in _KEYS.items():
        scores.add_row(
            label,
            points(other.base[key]),
            points(other.other[key]),
            _points(other.bought[key]),
            points(other.left[key]),
        )
    for key, label in _HEALTH.items():
        scores.add_row(
            label,
            percent(other.base[key]),
            percent(other.other[key]),
            _points(other.bought[key]),
            "",
        )
    scores.add_row(
        "tokens per image",
        number(other.base["tokens/mean"], 1),
        number(other.other["tokens/mean"], 1),
    )
    parts: list[RenderableType] = [head, scores, _side_by_side(other)]
    if other.note:
        parts.append(Text(other.note, style="yellow"))
    return Group(*parts)


def _decoding(decode: Mapping[str, Any] | None) -> str:
    """Under what control a run was decoded, in words."""
    if decode is None:
        return "decoding not recorded"
    control = control_facts({**decode, "samples": None})
    return printable(", ".join(control or ["free decoding"]))


def _side_by_side(other: Counterfactual) -> NumberTable:
    labels = list(_KEYS.values())
    table = _table(
        "error, in order",
        *("found\nhere", "found\nthere"),
        *(f"{label}\n{side}" for label in labels for side in ("here", "there")),
    )
    for before, after in zip(other.base_costs.costs, other.other_costs.costs, strict=True):
        if before.count or after.count or _any(before.in_order) or _any(after.in_order):
            cells = [_points(side.in_order[key]) for key in _KEYS for side in (before, after)]
            table.add_row(before.short_name, number(before.count), number(after.count), *cells)
    return table


__all__ = ["attribution_report"]
