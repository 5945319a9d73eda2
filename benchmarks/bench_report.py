"""A COCO-sized run to its report page: seconds, megabytes, and where the seconds go.

Reads the full LMM-Det set from COORDEVAL_DATA, writes its detections as coordinate-token texts
(`bench_scoring.write_run`), gives every image one of 20 generated pictures so that the thumbnails
are paid for, and builds the page with intervals, attribution and all texts.

    COORDEVAL_DATA=... python benchmarks/bench_report.py [-o report.html]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import bench_scoring

NUM_PICTURES = 20
LIMIT_S, LIMIT_MB = 60.0, 15.0


def write_pictures(folder: Path) -> None:
    """Pictures with the detail of a photo: coarse colours under fine grain."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    side = bench_scoring.SIDE
    for number in range(NUM_PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.normal(0, 12, (side, side, 1))
        picture = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.jpg", quality=90)


def name_pictures(rollouts: Path) -> None:
    """Give every line one of the pictures."""
    lines = rollouts.read_text().splitlines()
    with rollouts.open("w") as handle:
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


def main() -> int:
    """Build the page and print the figures; 1 above a limit, 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        print("set COORDEVAL_DATA to the folder of real data", file=sys.stderr)
        return 2
    from coordeval.metrics.score import score_run
    from coordeval.reports.charts.shown import shown_runs
    from coordeval.reports.html.report import build_report
    from coordeval.runs import open_run

    stages = Stages()
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name)
        bench_scoring.write_run(run_dir, *bench_scoring.load(Path(folder)))
        write_pictures(run_dir)
        name_pictures(run_dir / "rollouts.jsonl")
        stages("reading and scoring")
        run = open_run(run_dir)
        page = build_report(shown_runs([(run, score_run(run))]), on_stage=stages)
        data = page.html.encode()
        stages("")
    if given.output is not None:
        given.output.write_bytes(data)
    total, megabytes = sum(seconds for _, seconds in stages.seconds), len(data) / 1e6
    print(f"images {page.images}, records {page.objects}, thumbnails {len(page.thumbnails.uris)}")
    for stage, seconds in stages.seconds:
        print(f"{stage:<22}{seconds:8.2f} s")
    print(f"{'in all':<22}{total:8.2f} s   (limit {LIMIT_S:.0f} s)")
    print(f"{'page':<22}{megabytes:8.2f} MB  (limit {LIMIT_MB:.0f} MB)")
    return 0 if total <= LIMIT_S and megabytes <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
