"""`coordeval compare` on two COCO-sized runs, beside hotcoco's own comparison of AP alone.

Reads the full LMM-Det set from COORDEVAL_DATA (5,000 images, 150,000 detections) as run A; run B
is A with 3 % of the detections dropped and 10 % moved. Times, in this process: the whole comparison
from the texts (read, parse, score both, 2,000 draws of every metric, 200 of AP, reasons), and
`hotcoco.compare` with 200 draws on the same boxes, which gives AP and AR only. Prints both, the
parts of ours, and the ratio; CPU seconds too, which other work on the machine blurs less.

    COORDEVAL_DATA=... python benchmarks/bench_compare.py
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_scoring import load, write_run

COCO_DRAWS = 200


def perturbed(detections: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The detections with 3 % left out and 10 % moved right by a tenth of their width."""
    rng = random.Random(seed)
    out = []
    for detection in detections:
        if rng.random() < 0.03:
            continue
        if rng.random() < 0.1:
            x, y, w, h = detection["bbox"]
            detection = detection | {"bbox": [x + w / 10, y, w, h]}  # noqa: PLW2901
        out.append(detection)
    return out


def compare_with_hotcoco(truth: dict[str, Any], both: list[list[dict[str, Any]]]) -> None:
    """Hotcoco's comparison of two result lists, evaluation included."""
    from hotcoco import COCO, COCOeval, compare

    gt = COCO(truth)
    one, two = (COCOeval(gt, gt.loadRes(results), "bbox") for results in both)
    one.evaluate()
    two.evaluate()
    compare(one, two, n_bootstrap=COCO_DRAWS, seed=0)


def main() -> int:
    """Run both and print times and the ratio; 2 without the data."""
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        print("set COORDEVAL_DATA to the folder of real data", file=sys.stderr)
        return 2
    from coordeval.runs import open_run
    from coordeval.stats.comparison import CompareOptions, compare_runs

    truth, detections = load(Path(folder))
    both = [detections, perturbed(detections)]
    marks: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "a", Path(name) / "b"]
        for path, results in zip(paths, both, strict=True):
            path.mkdir()
            write_run(path, truth, results)
        start, cpu = time.perf_counter(), time.process_time()
        comparison = compare_runs(
            [open_run(path) for path in paths],
            CompareOptions(coco_draws=COCO_DRAWS),
            progress=lambda text: marks.append((text, time.perf_counter())),
        )
        end, cpu = time.perf_counter(), time.process_time() - cpu
    their_start, their_cpu = time.perf_counter(), time.process_time()
    compare_with_hotcoco(truth, both)
    theirs, their_cpu = time.perf_counter() - their_start, time.process_time() - their_cpu
    print(f"images {comparison.images}, detections {len(both[0])} and {len(both[1])}")
    for key in ("f1/0.50/f1", "coco/AP", "dup/exact_rate"):
        change = comparison.versus[0].changes[key]
        interval = f"[{change.low:+.5f}, {change.high:+.5f}]"
        print(f"{key:16} {change.delta:+.5f} {interval} {change.verdict}")
    for (text, begin), (_, stop) in zip(marks, [*marks[1:], ("", end)], strict=True):
        print(f"  {text:22} {stop - begin:6.2f} s")
    ours = end - start
    print(f"coordeval compare, everything from text {ours:7.2f} s wall {cpu:7.2f} s CPU")
    print(f"hotcoco compare, AP and AR alone        {theirs:7.2f} s wall {their_cpu:7.2f} s CPU")
    print(f"ratio {ours / theirs:41.2f} {cpu / their_cpu:14.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
