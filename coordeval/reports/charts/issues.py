"""What else is wrong with the texts: issues, as shares of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.parsers.reasons import ALL_ISSUES
from coordeval.records import NOTE_ISSUES
from coordeval.reports.charts.figure import Figure, base_spec, run_colour
from coordeval.reports.formats import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

NAME = "issues"
TITLE = "What is wrong with the texts"
LEAD = "Share of images whose text has an issue around its records; notes do not spoil conformance."


def figure(runs: Sequence[ShownRun]) -> Figure:
    """Bars of images per issue; nothing to draw where every text is sound."""
    rows = [row for shown in runs for row in _rows(shown)]
    names = sorted(
        {row["issue"] for row in rows},
        key=lambda name: (-sum(row["images"] for row in rows if row["issue"] == name), name),
    )
    if not names:
        return Figure(name=NAME, title=TITLE, lead=LEAD, missing="No text has an issue.")
    alt = "; ".join(
        f"{row['run']}: {row['issue']} in {counted(row['images'], 'text')}" for row in rows[:12]
    )
    labels = [shown.label for shown in runs]
    spec = base_spec(
        TITLE,
        alt,
        rows,
        mark={"type": "bar", "cornerRadiusEnd": 2},
        encoding={
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "share of images",
                "axis": {"format": "~%", "tickCount": 6},
                "scale": {"nice": True},
            },
            "y": {"field": "issue", "type": "nominal", "sort": names, "title": None},
            "yOffset": {"field": "run", "sort": labels},
            "color": run_colour(labels),
            "tooltip": [
                {"field": field} for field in ("run", "issue", "images", "of all", "meaning")
            ],
        },
    )
    spec["height"] = max(90, len(names) * (18 * len(labels) + 8) + 40)
    return Figure(name=NAME, title=TITLE, lead=LEAD, alt=alt, spec=spec)


def _rows(shown: ShownRun) -> list[dict[str, Any]]:
    total = shown.result.metrics["samples/total"] or 0
    out = []
    for name, meaning in ALL_ISSUES.items():
        count = shown.result.metrics.get(f"parse/issue/{name}") or 0
        if count:
            out.append(
                {
                    "run": shown.label,
                    "issue": f"{name} (note)" if name in NOTE_ISSUES else name,
                    "images": count,
                    "share": count / total,
                    "of all": percent(count / total),
                    "meaning": meaning,
                }
            )
    return out


__all__ = ["LEAD", "NAME", "TITLE", "figure"]
