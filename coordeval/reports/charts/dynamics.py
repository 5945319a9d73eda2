"""Curves of training logs: one figure per key, one colour per training, turning points marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.dynamics.keys import key_info
from coordeval.reports.charts.figure import VEGA_LITE, Figure, base_spec, run_colour
from coordeval.reports.charts.palette import HALO
from coordeval.reports.charts.thinning import MAX_POINTS, thinned
from coordeval.reports.charts.training_keys import selected_keys, training_labels
from coordeval.reports.dynamics import figure as shown_value
from coordeval.reports.dynamics import trend_text
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coordeval.dynamics.analysis import Dynamics
    from coordeval.dynamics.keys import Split
    from coordeval.dynamics.log import Series
    from coordeval.dynamics.trends import Trend

NAME = "dynamics"
TITLE = "Course of the training"
MISSING = "No key that moves has two points or more (--curve KEY draws any key)."
PANEL_WIDTH_PX = 720
TITLE_LIMIT = 70
LEGEND_LETTERS = 50
LOG_SCALE_FOLD = 50.0
"""Positive curves that span more than this factor are drawn on a logarithmic scale."""
LARGEST = 1e150
"""Beyond this, sums and differences of a scale overflow; such values are not drawn."""
SPLITS: dict[Split, str] = {"eval": "evaluation", "train": "training"}
_ARROWS = {"higher": "higher is better", "lower": "lower is better", "none": ""}


def curves(dynamics: Dynamics, wanted: Sequence[str] = ()) -> list[Figure]:
    """One figure per selected key (`selected_keys`), named `dynamics-1` and so on."""
    labels = training_labels(dynamics.names)
    keys = selected_keys(dynamics, wanted)
    return [_curve(f"{NAME}-{place}", key, dynamics, labels) for place, key in enumerate(keys, 1)]


def figure(dynamics: Dynamics, wanted: Sequence[str] = ()) -> Figure:
    """All selected keys below each other as one figure, for a file of its own."""
    found = curves(dynamics, wanted)
    parts = [part for part in found if part.spec is not None]
    lead = "Each key over the steps of training, as the logs say it."
    if not parts:
        return Figure(
            name=NAME, title=TITLE, lead=lead, missing=found[0].missing if found else MISSING
        )
    alt = "; ".join(f"{part.title}: {part.alt}" for part in parts)
    return Figure(name=NAME, title=TITLE, lead=lead, alt=alt, spec=_stacked(parts, alt))


def _stacked(parts: Sequence[Figure], alt: str) -> dict[str, Any]:
    panels = []
    for part in parts:
        assert part.spec is not None
        panel = {key: value for key, value in part.spec.items() if key not in _TOP_LEVEL}
        panels.append(panel | {"title": part.title, "width": PANEL_WIDTH_PX})
    return {
        "$schema": VEGA_LITE,
        "description": f"{TITLE}. {alt}",
        "vconcat": panels,
        "spacing": 36,
        "resolve": {"scale": {"strokeDash": "independent"}},
    }


_TOP_LEVEL = frozenset({"$schema", "autosize"})


def _curve(name: str, key: str, dynamics: Dynamics, labels: Mapping[str, str]) -> Figure:
    trends = [trend for trend in dynamics.trends if trend.key == key]
    rows = [row for series in _series(dynamics, key) for row in _rows(*series, labels)]
    title = printable(key, limit=TITLE_LIMIT)
    alt = "; ".join(f"{_who(trend, labels)}: {_course(trend)}" for trend in trends)
    drawn = [row for row in rows if abs(row["value"]) <= LARGEST]
    lead = _lead(key, dynamics, left_out=len(rows) - len(drawn))
    if not drawn:
        missing = f"No value of {title} can be drawn."
        return Figure(name=name, title=title, lead=lead, missing=missing)
    spec = base_spec(
        title,
        alt,
        drawn,
        encoding={
            "x": {
                "field": "step",
                "type": "quantitative",
                "title": "training step",
                "axis": {"tickCount": 6},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": _scale([row["value"] for row in drawn]),
            },
            "color": _colour([labels[name] for name in dynamics.names]),
        },
        layer=[_line(drawn), *_turn_layers(trends, labels)],
    )
    return Figure(name=name, title=title, lead=lead, alt=alt, spec=spec)


def _series(dynamics: Dynamics, key: str) -> Iterator[tuple[str, Series]]:
    for log in dynamics.logs:
        for split in SPLITS:
            series = log.get(split, key)
            if series is not None:
                yield log.name, series


def _rows(name: str, series: Series, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for step, value in thinned(series.steps, series.values):
        yield {
            "run": labels[name],
            "split": SPLITS[series.split],
            "step": step,
            "value": value,
            "shown": shown_value(value),
        }


def _lead(key: str, dynamics: Dynamics, *, left_out: int) -> str:
    info = key_info(key)
    lengths = [len(series.steps) for _, series in _series(dynamics, key)]
    parts = [
        info.meaning,
        f"in {info.unit}" if info.unit in ("bins", "nats") else "",
        _ARROWS[info.better],
        f"each curve thinned to its outline of {MAX_POINTS} points"
        if max(lengths) > MAX_POINTS
        else "",
        f"{left_out} beyond ±{LARGEST:g} not drawn" if left_out else "",
    ]
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _colour(names: Sequence[str]) -> dict[str, Any]:
    """The colours of trainings; a few long names stand in columns that fit a narrow screen."""
    out = run_colour(names) | {"sort": None}
    room = LEGEND_LETTERS // (max(map(len, names)) + 4)
    if 1 < len(names) <= 4 and room < len(names):
        out["legend"] = {"title": None, "columns": max(1, room)}
    return out


def _scale(values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    # The padding keeps room for the labels of turning points.
    if low > 0 and high / low > LOG_SCALE_FOLD:
        return {"type": "log", "padding": 22, "nice": False}
    return {"zero": False, "padding": 22, "nice": False}


def _line(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The curves; dashed for training where there is evaluation as well."""
    found = [name for name in SPLITS.values() if any(row["split"] == name for row in rows)]
    longest = max(sum(row["run"] == run for row in rows) for run in {row["run"] for row in rows})
    dash: dict[str, Any] = {
        "field": "split",
        "type": "nominal",
        "scale": {"domain": found, "range": [[1, 0], [4, 3]][: len(found)]},
        "legend": {"title": None, "symbolType": "stroke", "symbolSize": 240}
        if len(found) > 1
        else None,
    }
    return {
        "mark": {
            "type": "line",
            "point": {"size": 30, "filled": True} if longest <= 120 else False,
        },
        "encoding": {
            "strokeDash": dash,
            "tooltip": [
                {"field": "run", "title": "training"},
                {"field": "split", "title": "rows"},
                {"field": "step"},
                {"field": "shown", "title": "value"},
            ],
        },
    }


def _turn_layers(trends: Sequence[Trend], labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A ring and a label where a curve improves no further; labels of several stand stacked."""
    turned = [trend for trend in trends if trend.turn is not None and trend.best is not None]
    turned = [trend for trend in turned if trend.best and abs(trend.best[1]) <= LARGEST]
    for place, trend in enumerate(turned):
        assert trend.best is not None
        step, value = trend.best
        row = {
            "run": labels[trend.log],
            "step": step,
            "value": value,
            "shown": f"{shown_value(value)}, then worse",
            "label": f"turns at {step}: {shown_value(value)}",
        }
        down = key_info(trend.key).better == "lower"
        tooltip = [{"field": "run", "title": "training"}, {"field": "step"}, {"field": "shown"}]
        mark = {"type": "point", "filled": False, "size": 190, "strokeWidth": 2.5}
        yield {
            "data": {"values": [row]},
            "mark": mark,
            "encoding": {"tooltip": tooltip},
        }
        late = step - trend.first[0] > (trend.last[0] - trend.first[0]) / 2
        words: dict[str, Any] = {
            "type": "text",
            "align": "right" if late else "left",
            "dx": -11 if late else 11,
            # Inside the bend: curves worsen more slowly than they improve.
            "dy": (-26 - 14 * place) if down else (26 + 14 * place),
            "fontWeight": 600,
            "limit": 260,
        }
        text = {"text": {"field": "label", "type": "nominal"}}
        for style in ({"style": HALO}, {}):
            yield {"data": {"values": [row]}, "mark": words | style, "encoding": text}


def _who(trend: Trend, labels: Mapping[str, str]) -> str:
    return labels[trend.log] + ("" if trend.split == "eval" else " (training rows)")


def _course(trend: Trend) -> str:
    if trend.verdict != "too_few":
        return trend_text(trend)
    if trend.points == 1:
        return f"one value, {shown_value(trend.last[1])}"
    return f"{shown_value(trend.first[1])} -> {shown_value(trend.last[1])}, too few points to judge"


__all__ = ["MISSING", "NAME", "TITLE", "curves", "figure"]
