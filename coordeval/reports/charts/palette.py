"""Colours that colour-blind readers can tell apart (Okabe and Ito), on light and on dark.

Specifications name no colours of their own but the accents below; runs take theirs from the
theme's category range, so that one specification serves both themes.
"""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark"]

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#8A8F98"
HALO = "halo"

RUN_RANGE: dict[Theme, list[str]] = {
    "light": [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#5A5F68", "#7A6A00"],
    "dark": [SKY, ORANGE, "#1DBE94", PURPLE, VERMILLION, YELLOW, "#C9CDD3", "#3D9BD9"],
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def vega_config(theme: Theme) -> dict[str, Any]:
    """The Vega-Lite `config` of a theme: quiet axes, the run colours, a transparent ground."""
    ink, soft, grid = (
        ("#1b1f24", "#59616b", "#e4e6ea") if theme == "light" else ("#e9ebee", "#a9b0ba", "#30353c")
    )
    ground = "#fbfbfa" if theme == "light" else "#15181c"
    axis = {
        "labelColor": soft,
        "titleColor": soft,
        "gridColor": grid,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 10,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 260,
    }
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": "transparent"},
        "axis": axis,
        "legend": {
            "labelColor": ink,
            "titleColor": soft,
            "titleFontWeight": "normal",
            "orient": "top",
            "direction": "horizontal",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "labelLimit": 300,
            "symbolStrokeWidth": 3,
        },
        "header": {"labelColor": ink, "titleColor": soft},
        "title": {"color": ink, "anchor": "start"},
        "range": {"category": RUN_RANGE[theme]},
        "mark": {"color": RUN_RANGE[theme][0]},
        "text": {"color": soft, "fontSize": 12},
        "rule": {"color": soft},
        "line": {"strokeWidth": 2.25},
        # Drawn below a text, so that it can be read across lines.
        "style": {HALO: {"stroke": ground, "strokeWidth": 5, "strokeJoin": "round"}},
    }


__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "HALO",
    "ORANGE",
    "PURPLE",
    "RUN_RANGE",
    "SKY",
    "VERMILLION",
    "YELLOW",
    "Theme",
    "vega_config",
]
