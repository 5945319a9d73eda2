"""The tables of the summary: headline metrics with what they mean, and all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.metrics.catalogue import describe
from coordeval.reports.html.values import shown_change, shown_value, unit_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.reports.charts.shown import ShownRun
    from coordeval.reports.html.intervals import Interval
    from coordeval.stats.changes import Change

HEADLINE: dict[str, tuple[tuple[str, str], ...]] = {
    "Quality": (
        ("f1/0.50/f1", "F1 at IoU .50"),
        ("f1/0.50/precision", "precision at IoU .50"),
        ("f1/0.50/recall", "recall at IoU .50"),
        ("f1/mean/f1", "F1, mean over IoU .50:.95"),
        ("f1_loc/0.50/f1", "F1 at IoU .50, class ignored"),
        ("coco/AP", "AP"),
        ("coco/AP50", "AP at IoU .50"),
    ),
    "Federated AP (LVIS)": (
        ("lvis/AP", "AP"),
        ("lvis/AP50", "AP at IoU .50"),
        ("lvis/APr", "AP, rare classes"),
        ("lvis/APc", "AP, common classes"),
        ("lvis/APf", "AP, frequent classes"),
        ("lvis/unjudged", "detections that nobody can judge"),
    ),
    "Health of the texts": (
        ("samples/conforming_rate", "conforming texts"),
        ("parse/drop_rate", "dropped records"),
        ("samples/truncated_rate", "cut texts"),
        ("samples/unparseable_rate", "unreadable texts"),
        ("samples/empty_pred_rate", "texts without a valid object"),
        ("samples/errors", "engine errors"),
    ),
    "Repetition": (
        ("dup/exact_rate", "exact repeats"),
        ("dup/near_rate", "near repeats"),
        ("dup/loop_rate", "images with a loop"),
        ("dup/wasted_tokens", "tokens wasted in loops"),
    ),
    "Coordinate slots": (
        ("slot/mass_mean", "coordinate mass, mean"),
        ("slot/mass_p05", "coordinate mass, 5th percentile"),
        ("slot/control_lost_rate", "slots where control was lost"),
        ("slot/foreign_rate", "slots without a coordinate"),
        ("slot/entropy_mean", "entropy of the bins, mean"),
    ),
    "Loop guard": (
        ("guard/marked_rate", "texts with a loop, as the guard sees it"),
        ("guard/stopped_rate", "texts that the guard stopped"),
        ("guard/tokens_saved", "tokens saved"),
    ),
    "Several samples": (
        ("oracle/0.50/missed", "missed by the headline"),
        ("oracle/0.50/systematic", "of those, found by no sample"),
        ("oracle/0.50/recoverable_rate", "of those, found by another sample"),
        ("oracle/0.50/recover_fraction", "found again, per try"),
        ("oracle/0.50/recall_union", "found by any sample"),
        ("oracle/0.50/f1_best", "F1 with each image's best sample"),
    ),
}
"""Groups of metrics with their names; some only show where a run recorded them."""
_WHERE_RECORDED = ("lvis/", "slot/", "guard/", "oracle/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of one run: as shown, its interval, and its change against the first run."""

    value: str
    interval: str = ""
    change: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric over all runs; `arrow` says which way is better."""

    key: str
    name: str
    meaning: str
    unit: str
    arrow: str
    cells: tuple[Cell, ...]


_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def headline(
    runs: Sequence[ShownRun],
    intervals: Sequence[Mapping[str, Interval]],
    changes: Sequence[Mapping[str, Change]],
) -> dict[str, list[Row]]:
    """The headline metrics by group. `intervals` are per run, `changes` per run after the first."""
    rows = {
        group: [
            row(key, name, runs, intervals, changes)
            for key, name in keys
            if any(_has(shown, key) for shown in runs)
        ]
        for group, keys in HEADLINE.items()
    }
    return {group: found for group, found in rows.items() if found}


def _has(shown: ShownRun, key: str) -> bool:
    """Whether a run shows that metric: null ones only where they could have had a value."""
    metrics = shown.result.metrics
    return key in metrics and (metrics[key] is not None or not key.startswith(_WHERE_RECORDED))


def all_metrics(runs: Sequence[ShownRun]) -> list[Row]:
    """Every metric that any run has, in the order of scoring, without intervals."""
    keys = dict.fromkeys(key for shown in runs for key in shown.result.metrics)
    return [row(key, key, runs, (), ()) for key in keys]


def row(
    key: str,
    name: str,
    runs: Sequence[ShownRun],
    intervals: Sequence[Mapping[str, Interval]],
    changes: Sequence[Mapping[str, Change]],
) -> Row:
    """One metric's row; a run that lacks it shows "-"."""
    info = describe(key)
    cells = []
    for place, shown in enumerate(runs):
        value = shown.result.metrics.get(key)
        interval = intervals[place].get(key) if place < len(intervals) else None
        change = changes[place - 1].get(key) if 0 < place <= len(changes) else None
        cells.append(
            Cell(
                value=shown_value(key, value),
                interval="" if interval is None else _interval(key, interval),
                change="" if change is None else _change(key, change),
                verdict="" if change is None or not change.delta else change.verdict or "",
            )
        )
    return Row(
        key=key,
        name=name,
        meaning="" if info is None else info.meaning,
        unit=unit_name(key),
        arrow="" if info is None else _ARROWS[info.better],
        cells=tuple(cells),
    )


def _interval(key: str, interval: Interval) -> str:
    # Resampling what never varied proves nothing, so an interval without width is not shown.
    if interval.low == interval.high:
        return ""
    return f"[{shown_value(key, interval.low)}, {shown_value(key, interval.high)}]"


def _change(key: str, change: Change) -> str:
    if change.delta is None:
        return ""
    if not change.delta and not change.low and not change.high:
        return "the same"
    text = shown_change(key, change.delta)
    if change.low is not None and change.high is not None:
        text += f" [{shown_change(key, change.low)}, {shown_change(key, change.high)}]"
    return text


__all__ = ["HEADLINE", "Cell", "Row", "all_metrics", "headline"]
