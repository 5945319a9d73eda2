"""What each kind of failure costs, as steps from what was scored up to perfect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.attribution.error_types import ERROR_TYPES
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number, points, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.metrics.attribution.attribution import Attribution
    from coordeval.reports.charts.shown import ShownRun

NAME = "attribution"
TITLE = "What the failures cost"
# A bar that ends at 1 has its label ("+0.015") behind it: so many pixels, however narrow the page.
ROOM_FOR_LABELS = "max(1.08, width / max(width - 52, 40))"
LEAD = (
    "From the F1 at IoU .50 as scored, each step repairs one kind of failure and starts where the "
    "one above ended; together they reach 1. A longer step costs more."
)
KEY, AP_KEY = "f1/0.50/f1", "coco/AP"
PROTOCOL = "coordeval"
START, SMALLEST = "as scored", 5e-4
NAMES = {
    "Loop": "loops",
    "Exact": "exact repeats",
    "Near": "near repeats",
    "Unk": "unknown names",
    "Cls": "wrong name",
    "Loc": "poor box",
    "Both": "wrong name and poor box",
    "Dupe": "second box on a found object",
    "Bkg": "box on background",
    "Lost": "missed: dropped beyond repair",
    "Cut": "missed: text cut",
    "Engine": "missed: engine error",
    "Miss": "missed: nothing near",
}


def figure(runs: Sequence[ShownRun]) -> Figure:
    """A waterfall per run, failures in the order of the attribution; nothing for an empty run."""
    rows, sentences, names = [], [], [START]
    for shown in runs:
        result = shown.result
        if result.protocol["name"] != PROTOCOL or result.metrics.get(KEY) is None:
            continue
        costs = attribute(result)
        steps = _steps(shown.label, costs)
        rows += steps
        sentences.append(_sentence(shown.label, steps))
        names += [row["failure"] for row in steps if row["failure"] not in names]
    if not rows:
        return Figure(
            name=NAME,
            title=TITLE,
            lead=LEAD,
            missing=f"Costs need an F1 at IoU .50 under the protocol {PROTOCOL!r}.",
        )
    order = [START, *(_name(error.short_name) for error in ERROR_TYPES)]
    names.sort(key=order.index)
    alt = "; ".join(sentences)
    labels = [shown.label for shown in runs]
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=_spec(rows, names, alt, labels))


def _name(short_name: str) -> str:
    if short_name.startswith("Drop/"):
        return f"dropped: {short_name.removeprefix('Drop/')}"
    return NAMES.get(short_name, short_name)


def _steps(run: str, costs: Attribution) -> list[dict[str, Any]]:
    reached = costs.baseline[KEY] or 0.0
    ap = costs.baseline[AP_KEY]
    rows = [_row(run, START, 0.0, reached, "", ap, "the F1 of the run")]
    for cost in costs.costs:
        after, gain = cost.after[KEY], cost.in_order[KEY]
        if after is None or gain is None:
            continue
        if cost.count or abs(gain) >= SMALLEST:
            rows.append(
                _row(
                    run,
                    _name(cost.short_name),
                    reached,
                    after,
                    number(cost.count),
                    cost.in_order[AP_KEY],
                    cost.description,
                )
            )
        reached = after
    return rows


def _row(
    run: str, failure: str, low: float, high: float, count: str, ap: float | None, meaning: str
) -> dict[str, Any]:
    gain = high - low
    return {
        "run": run,
        "failure": failure,
        "from": round(low, 5),
        "to": round(high, 5),
        "end": round(max(low, high), 5),
        "F1": number(gain) if failure == START else signed(gain),
        "AP points": points(ap),
        "occurs": count,
        "meaning": meaning,
    }


def _sentence(run: str, rows: list[dict[str, Any]]) -> str:
    steps = sorted(rows[1:], key=lambda row: row["from"] - row["to"])[:3]
    parts = ", ".join(f"{row['failure']} {row['F1']}" for row in steps)
    return f"{run}: F1 {rows[0]['F1']} as scored; the costliest failures are {parts or 'none'}"


def _spec(
    rows: list[dict[str, Any]], names: list[str], alt: str, labels: list[str]
) -> dict[str, Any]:
    position = {
        "y": {"field": "failure", "type": "nominal", "sort": names, "title": None},
        "yOffset": {"field": "run", "sort": labels},
    }
    bars = {
        "mark": {"type": "bar", "cornerRadius": 1},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "scale": {"domainMin": 0, "domainMax": {"expr": ROOM_FOR_LABELS}},
                "axis": {"values": [0, 0.2, 0.4, 0.6, 0.8, 1], "format": ".1f"},
                "title": "F1 at IoU .50",
            },
            "x2": {"field": "to"},
            "color": run_colour(labels),
            "tooltip": [
                {"field": field}
                for field in ("run", "failure", "F1", "AP points", "occurs", "meaning")
            ],
        },
    }
    text = {
        "mark": {"type": "text", "align": "left", "dx": 5},
        "encoding": {
            "x": {"field": "end", "type": "quantitative"},
            "text": {"field": "F1"},
        },
    }
    height = max(140, len(names) * (16 * len(labels) + 7) + 50)
    return base_spec(TITLE, alt, rows, encoding=position, layer=[bars, text]) | {"height": height}


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
