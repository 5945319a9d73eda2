"""A page of training logs alone: no run, so no summary and no gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import coordeval
from coordeval.reports.charts.palette import vega_config
from coordeval.reports.html.images import Thumbnails
from coordeval.reports.html.page import FIGURE_SCRIPTS, render_page
from coordeval.reports.html.report import Report

if TYPE_CHECKING:
    from coordeval.reports.html.training import TrainingPart

TITLED = 4


def build_training_page(training: TrainingPart) -> Report:
    """The page; its counts of images and objects are 0."""
    rest = len(training.names) - TITLED
    names = " · ".join(training.names[:TITLED]) + (f" and {rest} more" if rest > 0 else "")
    html = render_page(
        {
            "title": names,
            "runs": (),
            "sections": (),
            "absent": (),
            "training": training,
            "version": coordeval.__version__,
        },
        {
            "figures": [figure.to_json() for figure in training.curves if figure.spec],
            "themes": {"light": vega_config("light"), "dark": vega_config("dark")},
        },
        scripts=FIGURE_SCRIPTS,
    )
    return Report(html=html, images=0, objects=0, thumbnails=Thumbnails(cap=0))


__all__ = ["build_training_page"]
