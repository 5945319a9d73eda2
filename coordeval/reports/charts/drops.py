"""Why records were dropped: reasons with their most frequent details, most frequent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.parsers.reasons import DROP_REASONS
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import number, percent
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "drops"
TITLE = "Why records were dropped"
LEAD = (
    "Records that cannot be used, by the first rule that each one breaks "
    "(reason / detail); most frequent first."
)
BARS = 14
BAR_PX = 18


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Bars of dropped records per reason and detail; nothing to draw where nothing was dropped."""
    counts = {shown.label: dropped(shown) for shown in runs}
    totals: dict[tuple[str, str], int] = {}
    for per_run in counts.values():
        for key, count in per_run.items():
            totals[key] = totals.get(key, 0) + count
    if not totals:
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing="No record was dropped.")
    ranked = sorted(totals, key=lambda key: -totals[key])
    names = [_name(key) for key in ranked[:BARS]]
    rows = []
    for shown in runs:
        found = shown.result.metrics["parse/objects_found"] or 0
        kept = {key: counts[shown.label].get(key, 0) for key in ranked[:BARS]}
        rest = sum(counts[shown.label].values()) - sum(kept.values())
        rows += [_row(shown.label, _name(key), key[0], count, found) for key, count in kept.items()]
        if len(ranked) > BARS:
            rows.append(_row(shown.label, "(all others)", "", rest, found))
    names += ["(all others)"] if len(ranked) > BARS else []
    alt = "; ".join(_sentence(shown, counts[shown.label]) for shown in runs)
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=_spec(rows, names, alt, runs))


def dropped(shown: ShownRun) -> dict[tuple[str, str], int]:
    """Dropped records by (reason, detail); the detail is empty where a reason has none."""
    records = shown.result.columns.records
    out: dict[tuple[str, str], int] = {}
    for reason, detail in zip(records.reason, records.detail, strict=True):
        if reason is not None:
            key = (reason, detail or "")
            out[key] = out.get(key, 0) + 1
    return out


def _name(key: tuple[str, str]) -> str:
    reason, detail = key
    return f"{reason} / {printable(detail, limit=32)}" if detail else reason


def _row(run: str, name: str, reason: str, count: int, found: float) -> dict[str, Any]:
    return {
        "run": run,
        "reason": name,
        "records": count,
        "label": number(count) if count else "",
        "of found": percent(count / found if found else None),
        "meaning": DROP_REASONS.get(reason, "reasons beyond the bars above"),
    }


def _sentence(shown: ShownRun, counts: dict[tuple[str, str], int]) -> str:
    total = sum(counts.values())
    found = shown.result.metrics["parse/objects_found"] or 0
    if not total:
        return f"{shown.label}: none of {counted(found, 'record')} dropped"
    first = max(counts, key=lambda key: counts[key])
    return (
        f"{shown.label}: {number(total)} of {counted(found, 'record')} dropped "
        f"({percent(total / found)}), most of them {_name(first)} ({number(counts[first])})"
    )


def _spec(
    rows: list[dict[str, Any]], names: list[str], alt: str, runs: Sequence[ShownRun]
) -> dict[str, Any]:
    labels = [shown.label for shown in runs]
    position: dict[str, Any] = {
        "x": {
            "field": "records",
            "type": "quantitative",
            "title": "dropped records",
            "axis": {"tickMinStep": 1},
        },
        "y": {"field": "reason", "type": "nominal", "sort": names, "title": None},
        "yOffset": {"field": "run", "sort": labels},
    }
    bar: dict[str, Any] = {
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "color": run_colour(labels),
            "tooltip": [
                {"field": field} for field in ("run", "reason", "records", "of found", "meaning")
            ],
        },
    }
    text: dict[str, Any] = {
        "mark": {"type": "text", "align": "left", "dx": 5},
        "encoding": {"text": {"field": "label"}},
    }
    height = max(120, len(names) * (BAR_PX * len(labels) + 8) + 40)
    return base_spec(TITLE, alt, rows, encoding=position, layer=[bar, text]) | {"height": height}


__all__ = ["LEAD", "NAME", "TITLE", "dropped", "figure"]
