"""A picture of a Stage-2 study: one point for every training, by arm and stress."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from study_tables import ArmResult

SHOWN: dict[str, str] = {
    "plain: F1@.50": "plain",
    "sampled: F1@.50": "sampled",
    "crowded: F1@.50": "crowded",
}
KEY = "f1/0.50/f1"
WIDTH, ROW, LABELS = 150, 17, 150


def study_figure(studies: Mapping[str, Sequence[ArmResult]]) -> Any:
    """A row of small charts per study: arms down, F1 across, a point per seed, a bar at the mean.

    Arms stand in the order of their results. An arm without a value has no point. Raises
    ValueError where there is nothing to draw.
    """
    from coordeval.reports.charts.figure import VEGA_LITE, Figure

    if not any(studies.values()):
        raise ValueError("no results to draw")
    everything = [result for results in studies.values() for result in results]
    highest = {stress: _axis_end(everything, stress) for stress in SHOWN.values()}
    spec = {
        "$schema": VEGA_LITE,
        "description": "F1 by study, arm and stress",
        "vconcat": [_study(name, results, highest) for name, results in studies.items()],
    }
    return Figure(
        name="stage2-studies",
        title="F1@.50 of every training",
        lead="",
        alt="; ".join(f"{name}: {_means(results)}" for name, results in studies.items()),
        spec=spec,
    )


def study_svg(studies: Mapping[str, Sequence[ArmResult]]) -> str:
    """The picture as an SVG file's text."""
    from coordeval.reports.charts.render import render

    return render(study_figure(studies), "svg").decode()


def _axis_end(results: Sequence[ArmResult], stress: str) -> float:
    """The next quarter above every value, so that the studies share their axes."""
    values = [result.stresses[stress][KEY] or 0.0 for result in results]
    return max(math.ceil(4 * max(values)), 1) / 4


def _study(name: str, results: Sequence[ArmResult], highest: Mapping[str, float]) -> dict[str, Any]:
    arms = list(dict.fromkeys(result.arm for result in results))
    charts = [
        _chart(title, results, stress, arms, end=highest[stress], labels=index == 0)
        for index, (title, stress) in enumerate(SHOWN.items())
    ]
    return {"title": {"text": name, "anchor": "start", "fontSize": 13}, "hconcat": charts}


def _chart(
    title: str,
    results: Sequence[ArmResult],
    stress: str,
    arms: Sequence[str],
    *,
    end: float,
    labels: bool,
) -> dict[str, Any]:
    rows = [
        {"arm": result.arm, "seed": str(result.seed), "f1": value}
        for result in results
        if (value := result.stresses[stress][KEY]) is not None
    ]
    axis = {
        "title": None,
        "ticks": False,
        "domain": False,
        "labels": labels,
        "labelLimit": LABELS,
        "minExtent": LABELS if labels else 0,
    }
    y = {"field": "arm", "type": "nominal", "sort": list(arms), "axis": axis}
    x = {
        "type": "quantitative",
        "scale": {"domain": [0, end]},
        "title": None,
        "axis": {"tickCount": 4},
    }
    return {
        "title": {"text": title, "fontSize": 11, "fontWeight": "normal", "frame": "group"},
        "width": WIDTH,
        "height": {"step": ROW},
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 34, "opacity": 0.7},
                "encoding": {"x": x | {"field": "f1"}, "y": y},
            },
            {
                "mark": {"type": "tick", "thickness": 2, "size": 13, "color": "#1F2430"},
                "encoding": {"x": x | {"field": "f1", "aggregate": "mean"}, "y": y},
            },
        ],
    }


def _means(results: Sequence[ArmResult]) -> str:
    """Mean F1 on plain scenes for each arm, for those who cannot see the picture."""
    found: dict[str, list[float]] = {}
    for result in results:
        value = result.stresses["plain"][KEY]
        if value is not None:
            found.setdefault(result.arm, []).append(value)
    return ", ".join(f"{arm} {sum(f1) / len(f1):.2f}" for arm, f1 in found.items())


__all__ = ["study_figure", "study_svg"]
