"""A COCO-sized run to its report page: seconds, megabytes, and where the seconds go.

Every image gets one of 20 generated pictures, so that the thumbnails are paid for; the page has
intervals, attribution and all texts.

    python benchmarks/bench_report.py [--page report.html]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from script import run_script
from tables import Table

from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.report import build_report
from coordeval.runs import open_run

if TYPE_CHECKING:
    import argparse

NUM_PICTURES = 20
SIDE = 640


def write_pictures(folder: Path) -> None:
    """Pictures with the detail of a photo: coarse colours under fine grain."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.normal(0, 12, (SIDE, SIDE, 1))
        picture = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.jpg", quality=90)


def name_pictures(rollouts: Path) -> None:
    """Give every line one of the pictures."""
    lines = rollouts.read_text(encoding="utf-8").splitlines()
    with rollouts.open("w", encoding="utf-8") as handle:
        for number, line in enumerate(lines):
            named = json.loads(line) | {"image": f"{number % NUM_PICTURES}.jpg"}
            handle.write(json.dumps(named) + "\n")


class Stages:
    """Seconds per stage, told apart by the calls that announce the next one."""

    def __init__(self) -> None:
        self.seconds: list[tuple[str, float]] = []
        self._name, self._start = "", 0.0

    def __call__(self, name: str) -> None:
        """End the stage that runs, if any, and start another."""
        now = time.perf_counter()
        if self._name:
            self.seconds.append((self._name, now - self._start))
        self._name, self._start = name, now


def measure(options: argparse.Namespace) -> list[Table]:
    """Build the page once."""
    work = workload.chosen(options)
    stages = Stages()
    with tempfile.TemporaryDirectory() as name:
        folder = workload.write_run(Path(name), work)
        write_pictures(folder)
        name_pictures(folder / "rollouts.jsonl")
        stages("reading and scoring")
        run = open_run(folder)
        page = build_report(shown_runs([(run, score_run(run))]), on_stage=stages)
        data = page.html.encode()
        stages("")
    if options.page is not None:
        options.page.write_bytes(data)
    total = sum(seconds for _, seconds in stages.seconds)
    return [
        Table(
            title=f"Report page: {work.name}, {page.images:,} images, {page.objects:,} records, "
            f"{len(page.thumbnails.uris)} thumbnails, {len(data) / 1e6:.2f} MB",
            columns=(("part", ""), ("wall s", ".2f"), ("share", ".0%")),
            rows=(
                *((stage, seconds, seconds / total) for stage, seconds in stages.seconds),
                ("in all", total, 1.0),
            ),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, and where to keep the page."""
    workload.add_arguments(parser)
    parser.add_argument("--page", type=Path, metavar="FILE")


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"images": 300}))
