"""All figures by name: the table that the page, `--figure` and the docs read."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError
from coordeval.reports.charts import (
    bin_errors,
    counts,
    drops,
    dynamics,
    f1_iou,
    issues,
    precision_recall,
    repeats,
    slot_entropy,
    slot_records,
    slots,
    steps,
    waterfall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.dynamics.analysis import Dynamics
    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun

FIGURES: dict[str, Callable[[Sequence[ShownRun]], Figure]] = {
    module.NAME: module.figure
    for module in (
        drops,
        issues,
        repeats,
        waterfall,
        precision_recall,
        f1_iou,
        counts,
        bin_errors,
        slots,
        slot_records,
        slot_entropy,
        steps,
    )
}
"""Name to builder, in the order of the page."""
FIGURE_NAMES = (*FIGURES, dynamics.NAME)
"""All names: the figures of runs, and the curves of training logs."""


def require_figure(name: str) -> None:
    """Raise ConfigError, with the nearest name, unless there is a figure of that name."""
    if name not in FIGURE_NAMES:
        near = difflib.get_close_matches(name, FIGURE_NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(FIGURE_NAMES)}"
        raise ConfigError(f"--figure {name!r}: there is no such figure; {hint}")


def figure_named(name: str, runs: Sequence[ShownRun]) -> Figure:
    """One figure of the runs; ConfigError for an unknown name, or for nothing to draw."""
    require_figure(name)
    return _drawn(FIGURES[name](runs))


def dynamics_figure(training: Dynamics, wanted: Sequence[str] = ()) -> Figure:
    """The curves of training logs as one figure; ConfigError for nothing to draw."""
    return _drawn(dynamics.figure(training, wanted))


def _drawn(figure: Figure) -> Figure:
    if figure.spec is None:
        raise ConfigError(f"--figure {figure.name}: nothing to draw. {figure.missing}")
    return figure


__all__ = ["FIGURES", "FIGURE_NAMES", "dynamics_figure", "figure_named", "require_figure"]
