"""Attributing a COCO-sized run (5,000 images, 150,000 detections), in scorings of the same run.

Writes the full LMM-Det set from COORDEVAL_DATA as coordinate-token texts (see bench_scoring.py)
and times, in this process, `score_run` and `attribute` on its result.

    COORDEVAL_DATA=... python benchmarks/bench_attribution.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from bench_scoring import load, write_run


def main() -> None:
    """Time scoring and attribution once each."""
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        sys.exit("COORDEVAL_DATA is not set")
    from coordeval.metrics.attribution.attribution import attribute
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary)
        write_run(run, *load(Path(folder)))
        start = time.perf_counter()
        result = score_run(open_run(run))
        scored = time.perf_counter()
        found = attribute(result)
        done = time.perf_counter()
    scoring, attributing = scored - start, done - scored
    print(f"images {result.columns.num_images:,}, predictions {len(result.columns.pred):,}")
    print(f"score_run  {scoring:6.1f} s")
    print(f"attribute  {attributing:6.1f} s   {attributing / scoring:.1f} scorings")
    print(f"error types {len(found.costs)}, each alone and in order, at ten thresholds")


if __name__ == "__main__":
    main()
