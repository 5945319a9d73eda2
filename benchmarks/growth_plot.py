"""The table of growth as a picture: time over input, both in multiples of 1x, on log axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tables import Table

COLUMNS = 3


def growth_figure(table: Table) -> Any:
    """One small chart per group; the thin line is linear growth, everything below it is better."""
    from coordeval.reports.charts.figure import VEGA_LITE, Figure

    first = next(i for i, (heading, _) in enumerate(table.columns) if heading == "1x")
    scales = [
        int(heading.removesuffix("x"))
        for heading, _ in table.columns[first:]
        if heading.endswith("x")
    ]
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        group, _, name = str(row[0]).partition(": ")
        values = [cell for cell in row[first : first + len(scales)] if isinstance(cell, float)]
        rows.extend(
            {"group": group, "name": name, "scale": scale, "times": value / values[0]}
            for scale, value in zip(scales, values, strict=True)
        )
    groups = list(dict.fromkeys(str(row["group"]) for row in rows))
    alt = "; ".join(f"{row[0]}: exponent {row[-3]:.2f}" for row in table.rows)
    spec = {
        "$schema": VEGA_LITE,
        "description": f"Growth. {alt}",
        "columns": COLUMNS,
        "concat": [
            _chart(group, [r for r in rows if r["group"] == group], scales) for group in groups
        ],
    }
    return Figure(
        name="growth", title="Time over input, in multiples of 1x", lead="", alt=alt, spec=spec
    )


def _chart(group: str, rows: list[dict[str, Any]], scales: list[int]) -> dict[str, Any]:
    """The lines of one group over the line of linear growth."""
    log: dict[str, Any] = {"type": "log", "base": 2, "domain": [1, scales[-1]]}
    x = {
        "field": "scale",
        "type": "quantitative",
        "scale": log,
        "axis": {"values": scales, "format": "d", "labelExpr": "datum.label + 'x'"},
        "title": None,
    }
    y = {
        "field": "times",
        "type": "quantitative",
        "scale": log | {"domain": [0.5, 2 * scales[-1]], "clamp": True},
        "axis": {"values": scales, "format": "d", "labelExpr": "datum.label + 'x'"},
        "title": None,
    }
    linear = [{"scale": scale, "times": scale} for scale in scales]
    return {
        "title": {"text": group, "fontSize": 13},
        "width": 190,
        "height": 170,
        "layer": [
            {
                "data": {"values": linear},
                "mark": {
                    "type": "line",
                    "strokeDash": [4, 4],
                    "strokeWidth": 1,
                    "color": "#8A8F98",
                },
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "line", "point": {"size": 18, "filled": True}, "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": y,
                    "detail": {"field": "name", "type": "nominal"},
                    "opacity": {"value": 0.75},
                },
            },
        ],
    }


def growth_svg(table: Table) -> str:
    """The picture as an SVG file's text."""
    from coordeval.reports.charts.render import render

    return render(growth_figure(table), "svg").decode()


__all__ = ["growth_figure", "growth_svg"]
