"""Rollout metrics against training steps: `python recipes/training_curve.py RUN_FOLDER`.

Reads the run directories `eval/step_*/` that the evaluator in the loop left; every number is the
one that `coordeval score RUN_FOLDER/eval/step_000300` prints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table

from coordeval.errors import CoordevalError, DataError
from coordeval.metrics.score import score_run
from coordeval.reports.console import result_console
from coordeval.reports.formats import bar, number, percent, points
from coordeval.reports.printable import printable
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS = 30


class Point(NamedTuple):
    """One evaluation of a training; metrics as in metrics.json."""

    step: int
    path: Path
    metrics: dict[str, float | int | None]


def read_curve(folder: Path) -> list[Point]:
    """All evaluations of a run folder by step; DataError where there is none."""
    found = []
    for path in sorted((folder / "eval").glob("step_*")):
        digits = path.name.removeprefix("step_")
        if digits.isdigit():  # not what a repeated training has set aside
            found.append(Point(int(digits), path, dict(score_run(open_run(path)).metrics)))
    if not found:
        raise DataError(f"{folder}: holds no evaluation (eval/step_*); set rollout_eval.every")
    return sorted(found, key=lambda point: point.step)


def curve_table(points_found: Sequence[Point]) -> Table:
    """One row per evaluation; the bar is F1 at IoU .50, its full length 1."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "F1@.50"):
        table.add_column(name, justify="right")
    table.add_column("", width=CELLS, no_wrap=True)
    for name in ("AP", "conforming", "drop rate", "images"):
        table.add_column(name, justify="right")
    for point in points_found:
        metrics = point.metrics
        f1 = metrics["f1/0.50/f1"]
        table.add_row(
            f"{point.step:,}",
            number(f1),
            bar(f1 or 0.0, 1.0, CELLS),
            points(metrics["coco/AP"]),
            percent(metrics["samples/conforming_rate"]),
            percent(metrics["parse/drop_rate"]),
            number(metrics["samples/total"], 0),
        )
    return table


def main(given: Sequence[str] | None = None) -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    chosen = parser.parse_args(given)
    try:
        result_console().print(curve_table(read_curve(chosen.folder)))
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
