"""Attributing a COCO-sized run, in scorings of the same run.

python benchmarks/bench_attribution.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from rounds import INTERVAL_NOTE, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table

from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.score import score_run
from coordeval.runs import open_run

if TYPE_CHECKING:
    import argparse


def measure(options: argparse.Namespace) -> list[Table]:
    """Both in turn."""
    work = workload.chosen(options)
    with tempfile.TemporaryDirectory() as name:
        run = open_run(workload.write_run(Path(name), work))
        result = score_run(run)
        found = attribute(result)
        times = side_by_side(
            {"score_run": lambda: score_run(run), "attribute": lambda: attribute(result)},
            options.rounds,
        )
    rows = tuple(
        (
            label,
            median_s(times, label, wall=True),
            median_s(times, label),
            ratio_of(times, label, "score_run"),
        )
        for label in times
    )
    return [
        Table(
            title=f"Attribution: {work.name}, {result.columns.num_images:,} images, "
            f"{len(result.columns.pred):,} predictions",
            columns=(("what", ""), ("wall s", ".2f"), ("CPU s", ".2f"), ("CPU, scorings", ".2f")),
            rows=rows,
            notes=(
                f"{len(found.costs)} error types, alone and in order, at ten IoUs and for AP.",
                INTERVAL_NOTE,
            ),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, how often."""
    workload.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"images": 300, "rounds": 1}))
