"""COCO evaluators behind one command: the twelve numbers, times and peak memory of one of them.

    python benchmarks/coco_engines.py ENGINE FOLDER

FOLDER holds `run/` (a run directory), `truth.json` and `detections.json` (the boxes of the same run
as COCO has them). Reading those and importing the library come before the clock starts; what is
timed goes from plain lists (for torchmetrics: from tensors) to the twelve numbers. Prints JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from children import peak_bytes, resident_bytes
from rounds import timed
from script import installed

if TYPE_CHECKING:
    from collections.abc import Callable

    Numbers = list[float]
    Work = Callable[[], Numbers]

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TORCHVISION = Path(sys.prefix) / "torchvision-for-bench"
SHIM = Path(__file__).resolve().parent.parent / "tests" / "with_vllm" / "setup"
TORCHMETRICS_KEYS = (
    *("map", "map_50", "map_75", "map_small", "map_medium", "map_large"),
    *("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
)


def _boxes(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    truth = json.loads((folder / "truth.json").read_bytes())
    return truth, json.loads((folder / "detections.json").read_bytes())


def _import_lazy_parts() -> None:
    """Libraries that scoring imports on first use: the others' too come before the clock."""
    for name in ("hotcoco", "pandas", "pyarrow.parquet", "scipy.optimize", "scipy.sparse.csgraph"):
        import_module(name)


def coordeval(folder: Path) -> Work:
    """Everything that `coordeval score` computes, from the texts."""
    _import_lazy_parts()
    from coordeval.metrics.coco_engine import COCO_KEYS
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    def work() -> Numbers:
        metrics = score_run(open_run(folder / "run")).metrics
        return [_number(metrics[f"coco/{key}"]) for key in COCO_KEYS]

    return work


def coordeval_command(folder: Path) -> Work:
    """The same and the tables, as the command line writes them."""
    _import_lazy_parts()
    from coordeval.metrics.coco_engine import COCO_KEYS
    from coordeval.metrics.score import score_run
    from coordeval.metrics.write import write_score
    from coordeval.runs import open_run

    def work() -> Numbers:
        result = score_run(open_run(folder / "run"))
        write_score(result, folder / f"score-{os.getpid()}")
        return [_number(result.metrics[f"coco/{key}"]) for key in COCO_KEYS]

    return work


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


def _coco_api(folder: Path, coco_class: Any, eval_class: Any, **settings: Any) -> Work:
    truth, detections = _boxes(folder)

    def work() -> Numbers:
        gt = coco_class()
        gt.dataset = truth
        gt.createIndex()
        run = eval_class(gt, gt.loadRes(detections), "bbox")
        for key, value in settings.items():
            setattr(run.params, key, value)
        run.evaluate()
        run.accumulate()
        run.summarize()
        return [float(value) for value in list(run.stats)[:12]]

    return work


def pycocotools(folder: Path) -> Work:
    """The reference."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _coco_api(folder, COCO, COCOeval)


def pycocotools_float32(folder: Path) -> Work:
    """The reference with torchmetrics' grids, which are steps of float32 instead of float64."""
    import numpy as np
    import torch
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    grids = {
        "iouThrs": np.array(torch.linspace(0.5, 0.95, 10).tolist()),
        "recThrs": np.array(torch.linspace(0.0, 1.0, 101).tolist()),
    }
    return _coco_api(folder, COCO, COCOeval, **grids)


def faster_coco_eval(folder: Path) -> Work:
    """faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    return _coco_api(folder, COCO, COCOeval_faster)


def hotcoco(folder: Path) -> Work:
    """Hotcoco alone: what coordeval's own COCO numbers come from."""
    from hotcoco import COCO, COCOeval

    truth, detections = _boxes(folder)

    def work() -> Numbers:
        gt = COCO(truth)
        run = COCOeval(gt, gt.loadRes(detections), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        return [float(value) for value in run.stats]

    return work


def _with_torchvision() -> None:
    """Let this process alone see a torchvision that the environment does not have.

    torchmetrics needs one to turn boxes round. In the environment itself transformers would find
    it as well, and a torchvision built for CUDA cannot be imported beside a CPU build of torch.
    """
    if TORCHVISION.is_dir():
        sys.path += [str(TORCHVISION), str(SHIM)]
        import_module("torchvision_beside_cpu_torch")


def _torchmetrics(folder: Path, backend: str) -> Work:
    import torch

    _with_torchvision()
    from torchmetrics.detection import MeanAveragePrecision

    truth, detections = _boxes(folder)
    found: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in truth["images"]}
    objects: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in truth["images"]}
    for item in detections:
        found[item["image_id"]].append(item)
    for item in truth["annotations"]:
        objects[item["image_id"]].append(item)

    def tensors(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        out = {
            "boxes": torch.tensor([item["bbox"] for item in items]).reshape(-1, 4),
            "labels": torch.tensor([item["category_id"] for item in items], dtype=torch.int64),
        }
        for ours, theirs in (("score", "scores"), ("iscrowd", "iscrowd"), ("area", "area")):
            if items and ours in items[0]:
                out[theirs] = torch.tensor([item[ours] for item in items])
        if not items:
            out["scores"] = torch.zeros(0)
        return out

    pairs = [(tensors(found[key]), tensors(objects[key])) for key in found]

    def work() -> Numbers:
        metric = MeanAveragePrecision(box_format="xywh", backend=backend)
        metric.warn_on_many_detections = False
        for prediction, target in pairs:
            metric.update([prediction], [target])
        numbers = metric.compute()
        return [float(numbers[key]) for key in TORCHMETRICS_KEYS]

    return work


def torchmetrics(folder: Path) -> Work:
    """MeanAveragePrecision as it comes."""
    return _torchmetrics(folder, "pycocotools")


def torchmetrics_faster(folder: Path) -> Work:
    """The same with its faster backend."""
    return _torchmetrics(folder, "faster_coco_eval")


ENGINES: dict[str, tuple[Callable[[Path], Work], tuple[str, ...]]] = {
    "coordeval score_run": (coordeval, ()),
    "coordeval score (with tables)": (coordeval_command, ()),
    "pycocotools": (pycocotools, ()),
    "faster-coco-eval": (faster_coco_eval, ("faster-coco-eval",)),
    "torchmetrics": (torchmetrics, ("torchmetrics", "torchvision")),
    "torchmetrics, faster backend": (
        torchmetrics_faster,
        ("torchmetrics", "torchvision", "faster-coco-eval"),
    ),
    "hotcoco": (hotcoco, ()),
}
"""Rows of the table: what prepares the work, and the packages that it needs beyond ours."""

EXPLANATIONS: dict[str, tuple[Callable[[Path], Work], tuple[str, ...]]] = {
    "pycocotools, float32 grids": (pycocotools_float32, ("torch",)),
}
"""Measured for what they say only."""


def missing(name: str) -> str | None:
    """The package for want of which an engine cannot run here."""
    _, packages = (ENGINES | EXPLANATIONS)[name]
    for package in packages:
        there = package == "torchvision" and TORCHVISION.is_dir()
        if not there and installed(package) is None:
            return package
    return None


def main() -> None:
    """Measure one."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    prepare, _ = (ENGINES | EXPLANATIONS)[name]
    numbers: Numbers = []
    with contextlib.redirect_stdout(io.StringIO()):
        work = prepare(folder)
        before = resident_bytes()
        taken = timed(lambda: numbers.extend(work()))
    print(
        json.dumps(
            {
                "cpu": taken.cpu,
                "wall": taken.wall,
                "before_bytes": before,
                "peak_bytes": peak_bytes(),
                "numbers": numbers,
            }
        )
    )


if __name__ == "__main__":
    main()
