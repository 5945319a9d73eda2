"""`coordeval compare` on two COCO-sized runs, beside hotcoco's own comparison of AP alone.

Run B is run A with 3 % of the detections dropped and 10 % moved. Ours is the whole comparison from
the texts: read, parse, score both, 2,000 draws of every metric, 200 of AP, reasons. hotcoco's
comparison is 200 draws of AP and AR on the same boxes.

    python benchmarks/bench_compare.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from rounds import INTERVAL_NOTE, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table

from coordeval.runs import open_run
from coordeval.stats.comparison import CompareOptions, compare_runs

if TYPE_CHECKING:
    import argparse

    from tables import Cell

    from coordeval.stats.comparison import Comparison

COCO_DRAWS = 200
OURS, THEIRS = "coordeval compare, everything from texts", "hotcoco compare, AP and AR alone"
SHOWN = ("f1/0.50/f1", "coco/AP", "dup/exact_rate")


def compare_with_hotcoco(one: workload.Workload, two: workload.Workload) -> None:
    """Hotcoco's comparison of two result lists, evaluation included."""
    from hotcoco import COCO, COCOeval, compare

    gt = COCO(one.truth)
    first, second = (COCOeval(gt, gt.loadRes(work.detections), "bbox") for work in (one, two))
    first.evaluate()
    second.evaluate()
    compare(first, second, n_bootstrap=COCO_DRAWS, seed=0)


def measure(options: argparse.Namespace) -> list[Table]:
    """Both in turn, then the parts of ours and what it says."""
    one = workload.chosen(options)
    two = workload.perturbed(one)
    settings = CompareOptions(coco_draws=COCO_DRAWS)
    with tempfile.TemporaryDirectory() as name:
        runs = [
            open_run(workload.write_run(Path(name) / label, work))
            for label, work in (("a", one), ("b", two))
        ]
        times = side_by_side(
            {
                OURS: lambda: compare_runs(runs, settings),
                THEIRS: lambda: compare_with_hotcoco(one, two),
            },
            options.rounds,
        )
        marks: list[tuple[str, float]] = []
        comparison = compare_runs(
            runs, settings, progress=lambda text: marks.append((text, time.perf_counter()))
        )
        marks.append(("", time.perf_counter()))
    title = (
        f"{one.name}, {comparison.images:,} images, {len(one.detections):,} and "
        f"{len(two.detections):,} detections"
    )
    cost: tuple[tuple[Cell, ...], ...] = tuple(
        (
            label,
            median_s(times, label, wall=True),
            median_s(times, label),
            ratio_of(times, label, THEIRS),
        )
        for label in (OURS, THEIRS)
    )
    return [
        Table(
            title=f"Comparison: {title}",
            columns=(("what", ""), ("wall s", ".2f"), ("CPU s", ".2f"), ("CPU, ratio", ".2f")),
            rows=cost,
            notes=(INTERVAL_NOTE,),
        ),
        _parts(marks),
        _said(comparison),
    ]


def _parts(marks: list[tuple[str, float]]) -> Table:
    return Table(
        title="Comparison: where the time goes (once)",
        columns=(("part", ""), ("wall s", ".2f")),
        rows=tuple((text, stop - begin) for (text, begin), (_, stop) in pairwise(marks)),
    )


def _said(comparison: Comparison) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for key in SHOWN:
        change = comparison.versus[0].changes[key]
        interval = None
        if change.delta is not None and change.low is not None and change.high is not None:
            interval = [change.delta, change.low, change.high]
        rows.append((key, interval, change.verdict))
    return Table(
        title="Comparison: what it says",
        columns=(("metric", ""), ("B - A, 95 %", "+.5f"), ("verdict", "")),
        rows=tuple(rows),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, how often."""
    workload.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"images": 300, "rounds": 1}))
