"""Scoring a COCO-sized run from its texts against pycocotools' COCO part alone, side by side.

Reads the full LMM-Det set from COORDEVAL_DATA, writes its detections as coordinate-token texts of
one 640 x 640 canvas (sizes are missing in the set; for speed only), then times, in this process:
`score_run` (read, parse, match, F1 aware / agnostic / deduplicated, repeats and loops, COCO raw /
deduplicated / both tie orders) and pycocotools' COCOeval on the same boxes. Prints the ratio.

    COORDEVAL_DATA=... python benchmarks/bench_scoring.py
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDE = 640


def load(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and detections of the full set."""
    base = folder / "coco_val2017_full_boxes"
    with gzip.open(base / "instances_val2017_boxes_rebuilt.json.gz") as handle:
        truth = json.load(handle)
    with gzip.open(base / "lmm_det_stage4_detections.json.gz") as handle:
        detections = json.load(handle)
    return truth, detections


def box_bins(bbox: list[float]) -> list[int]:
    """Bins of a box on the canvas; 1000 is written as 999, an empty side is widened."""
    x, y, w, h = bbox
    bins = [min(max(round(v * 1000 / SIDE), 0), 999) for v in (x, y, x + w, y + h)]
    for low, high in ((0, 2), (1, 3)):
        if bins[high] <= bins[low]:
            bins[low], bins[high] = min(bins[low], 998), min(bins[low], 998) + 1
    return bins


def write_run(folder: Path, truth: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    """The detections as a run directory, one text per image, in file order."""
    from coordeval.coords import FRAMES
    from coordeval.data.canonical import render_text
    from coordeval.parsers.dialects import DIALECTS

    names = {item["id"]: item["name"] for item in truth["categories"]}
    found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for detection in detections:
        found[detection["image_id"]].append(detection)
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for item in truth["annotations"]:
        x, y, w, h = item["bbox"]
        objects[item["image_id"]].append(
            {
                "desc": names[item["category_id"]],
                "bbox_2d": [x, y, x + w, y + h],
                "area": item["area"],
                "iscrowd": item["iscrowd"],
            }
        )
    meta = {
        "format": "coordeval-run/1",
        "frame": FRAMES["square-1000"].name,
        "dialect": DIALECTS["coordjson"].to_json(),
        "categories": [{"id": item["id"], "name": item["name"]} for item in truth["categories"]],
    }
    (folder / "run.json").write_text(json.dumps(meta))
    with (folder / "rollouts.jsonl").open("w") as handle:
        for image_id, items in found.items():
            records = [(names[d["category_id"]], "bbox_2d", box_bins(d["bbox"])) for d in items]
            line = {
                "id": str(image_id),
                "image_id": image_id,
                "width": SIDE,
                "height": SIDE,
                "gt": objects[image_id],
                "text": render_text(records, DIALECTS["coordjson"]),
                "finish_reason": "stop",
                "scores": [d["score"] for d in items],
            }
            handle.write(json.dumps(line) + "\n")


def time_pycocotools(truth: dict[str, Any], detections: list[dict[str, Any]]) -> float:
    """Seconds of pycocotools' COCO part: index, load results, evaluate, accumulate, summarise."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(detections), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return time.perf_counter() - start


def main() -> int:
    """Run both and print the times and the ratio; 2 without the data."""
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        print("set COORDEVAL_DATA to the folder of real data", file=sys.stderr)
        return 2
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    truth, detections = load(Path(folder))
    with tempfile.TemporaryDirectory() as name:
        write_run(Path(name), truth, detections)
        start = time.perf_counter()
        result = score_run(open_run(Path(name)))
        ours = time.perf_counter() - start
    theirs = time_pycocotools(truth, detections)
    metrics = result.metrics
    print(f"images {metrics['samples/total']}, detections {metrics['parse/objects_found']}")
    print(f"coco/AP {metrics['coco/AP']:.5f}, f1/0.50/f1 {metrics['f1/0.50/f1']:.5f}")
    print(f"coordeval, everything from text   {ours:7.2f} s")
    print(f"pycocotools, COCO part alone      {theirs:7.2f} s")
    print(f"ratio                             {ours / theirs:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
