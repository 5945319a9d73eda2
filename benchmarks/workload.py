"""COCO-sized work: a seeded synthetic set like COCO, or LMM-Det's boxes on val2017.

Both are COCO dictionaries: ground truth, and a results list in the order in which a model would
write it. `write_run` turns them into a run directory of coordinate-token texts.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import argparse

    from numpy.typing import NDArray

COCO_IMAGES = 5000
CLASSES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,"
    "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
SIDES = ((640, 480), (480, 640), (640, 427), (500, 375), (612, 612))
LONGEST_LOOP = 40
SIDE = 640  # the canvas of the real set, which lacks most images' sizes


class Workload(NamedTuple):
    """Ground truth and results of one set, and the frame in which its boxes are written."""

    name: str
    truth: dict[str, Any]
    detections: list[dict[str, Any]]
    frame: str


def synthetic(num_images: int, seed: int = 0) -> Workload:
    """A set with COCO's counts: 7.4 objects and some 30 detections an image, 1 % crowd regions.

    Classes are as uneven as COCO's. A detector finds four objects of five, off by some pixels, with
    scores of two decimals (so that ties occur), takes a class for another, finds what is not
    there, and in 2 % of the images repeats its last box over and over.
    """
    rng = np.random.default_rng(seed)
    names = CLASSES.split(",")
    weights = 1.0 / np.arange(1, len(names) + 1)
    weights /= weights.sum()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        width, height = SIDES[rng.integers(len(SIDES))]
        images.append(
            {"id": image_id, "file_name": f"{image_id:012}.jpg", "width": width, "height": height}
        )
        count = int(rng.geometric(1 / 8.4) - 1)
        boxes = _boxes(rng, count, width, height)
        codes = rng.choice(len(names), size=count, p=weights)
        for box, code in zip(boxes.tolist(), codes.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": code + 1,
                    "bbox": box,
                    "area": box[2] * box[3] * 0.6,
                    "iscrowd": int(rng.random() < 0.012),
                }
            )
        detections.extend(_detected(rng, image_id, (width, height), boxes, codes, weights))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    truth = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    return Workload("synthetic", truth, detections, "coordexp")


def _boxes(rng: np.random.Generator, count: int, width: int, height: int) -> NDArray[np.float64]:
    """Boxes (count, 4; x, y, w, h) with sizes from some pixels to the image, mostly small."""
    sides = np.exp(rng.normal(np.log(55), 0.9, size=(count, 1)))
    shape = np.exp(rng.normal(0.0, 0.35, size=(count, 1)))
    extent = np.clip(np.hstack([sides * shape, sides / shape]), 4, (width - 2, height - 2))
    corner = rng.random((count, 2)) * ((width - 1, height - 1) - extent)
    return np.round(np.hstack([corner, extent]), 2)


def _detected(
    rng: np.random.Generator,
    image_id: int,
    size: tuple[int, int],
    boxes: NDArray[np.float64],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """What the detector writes for one image."""
    found = rng.random(len(boxes)) < 0.8
    spread = rng.exponential(0.06, size=(int(found.sum()), 1))
    moved = boxes[found] + rng.normal(0, 1, (int(found.sum()), 4)) * spread * np.tile(
        boxes[found, 2:], 2
    )
    swapped = rng.random(int(found.sum())) < 0.06
    drawn = rng.choice(len(weights), size=int(found.sum()), p=weights)
    num_wrong = int(rng.poisson(23))
    wrong = _boxes(rng, num_wrong, *size)
    everything = np.vstack([moved, wrong])
    category = np.concatenate(
        [
            np.where(swapped, drawn, codes[found]),
            rng.choice(len(weights), size=num_wrong, p=weights),
        ]
    )
    scores = np.concatenate([rng.beta(5, 2, len(moved)), rng.beta(1.5, 5, num_wrong)]).round(2)
    low = np.clip(everything[:, :2], 0, np.array(size) - 3)
    high = np.clip(everything[:, :2] + everything[:, 2:], low + 2, np.array(size) - 1)
    order = rng.permutation(len(everything)).tolist()
    if order and rng.random() < 0.02:
        order += [order[-1]] * int(rng.integers(8, LONGEST_LOOP))
    return [
        {
            "image_id": image_id,
            "category_id": int(category[row]) + 1,
            "bbox": [*low[row].tolist(), *(high[row] - low[row]).tolist()],
            "score": float(scores[row]),
        }
        for row in order
    ]


def lmm_det(folder: Path, num_images: int = COCO_IMAGES) -> Workload:
    """LMM-Det's detections on val2017, as boxes of one canvas of 640 x 640."""
    base = folder / "coco_val2017_full_boxes"
    with gzip.open(base / "instances_val2017_boxes_rebuilt.json.gz") as handle:
        truth = json.load(handle)
    with gzip.open(base / "lmm_det_stage4_detections.json.gz") as handle:
        detections = json.load(handle)
    kept = {image["id"] for image in truth["images"][:num_images]}
    truth["images"] = [
        image | {"width": SIDE, "height": SIDE} for image in truth["images"] if image["id"] in kept
    ]
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] in kept]
    # In the order of their ids: evaluators sort by them, and ties are kept in that order.
    truth["images"].sort(key=lambda image: image["id"])
    truth.setdefault("info", {})
    found = [item for item in detections if item["image_id"] in kept]
    return Workload("LMM-Det on val2017", truth, found, "square-1000")


def perturbed(work: Workload, seed: int = 0) -> Workload:
    """The same with 3 % of the detections left out and 10 % moved by a tenth of their width."""
    rng = np.random.default_rng(seed)
    out = []
    for detection in work.detections:
        if rng.random() < 0.03:
            continue
        if rng.random() < 0.1:
            x, y, w, h = detection["bbox"]
            detection = detection | {"bbox": [x + w / 10, y, w, h]}  # noqa: PLW2901
        out.append(detection)
    return work._replace(detections=out)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, and how large."""
    parser.add_argument("--images", type=int, default=COCO_IMAGES)
    parser.add_argument(
        "--workload",
        choices=("auto", "synthetic", "lmm-det"),
        default="auto",
        help="lmm-det needs COORDEVAL_DATA; auto takes it where it is",
    )


def data_folder() -> Path | None:
    """Where the real data is, or None."""
    folder = os.environ.get("COORDEVAL_DATA")
    return Path(folder) if folder and (Path(folder) / "coco_val2017_full_boxes").is_dir() else None


def chosen(options: argparse.Namespace) -> Workload:
    """The set that the options ask for."""
    folder = data_folder()
    if options.workload == "lmm-det" and folder is None:
        raise SystemExit("lmm-det: set COORDEVAL_DATA to the folder of real data")
    if options.workload == "synthetic" or folder is None:
        return synthetic(options.images)
    return lmm_det(folder, options.images)


def write_run(folder: Path, work: Workload, *, seed_tokens: bool = False) -> Path:
    """The detections as a run directory, one text per image, in the order of the list.

    `seed_tokens` adds made-up token ids and log-probabilities, as an engine of ours stores them.
    """
    from coordeval.coords import frame_named, quantise
    from coordeval.data.canonical import render_text
    from coordeval.jsonl import dump_line
    from coordeval.parsers.dialects import DIALECTS

    dialect, frame = DIALECTS["coordjson"], frame_named(work.frame)
    names = {item["id"]: item["name"] for item in work.truth["categories"]}
    found: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in work.truth["images"]}
    objects: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in work.truth["images"]}
    for detection in work.detections:
        found[detection["image_id"]].append(detection)
    for item in work.truth["annotations"]:
        x, y, w, h = item["bbox"]
        objects[item["image_id"]].append(
            {
                "desc": names[item["category_id"]],
                "bbox_2d": [x, y, x + w, y + h],
                "area": item["area"],
                "iscrowd": bool(item["iscrowd"]),
            }
        )
    meta = {
        "format": "coordeval-run/1",
        "frame": frame.name,
        "dialect": dialect.to_json(),
        "categories": [{"id": number, "name": name} for number, name in names.items()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(dump_line(meta))
    rng = np.random.default_rng(0)
    with (folder / "rollouts.jsonl").open("wb") as handle:
        for image in work.truth["images"]:
            items, size = found[image["id"]], (image["width"], image["height"])
            records = []
            for detection in items:
                x, y, w, h = detection["bbox"]
                bins = quantise((x, y, x + w, y + h), *size, frame, is_box=True).bins
                records.append((names[detection["category_id"]], "bbox_2d", bins))
            line: dict[str, Any] = {
                "id": str(image["id"]),
                "image_id": image["id"],
                "width": size[0],
                "height": size[1],
                "gt": objects[image["id"]],
                "text": render_text(records, dialect),
                "finish_reason": "stop",
                "scores": [detection["score"] for detection in items],
            }
            if seed_tokens:
                num = 3 + 18 * len(items)
                line["token_ids"] = rng.integers(0, 150_000, num).tolist()
                line["token_logprobs"] = (-rng.exponential(0.2, num)).tolist()
            handle.write(dump_line(line))
    return folder


__all__ = [
    "COCO_IMAGES",
    "Workload",
    "add_arguments",
    "chosen",
    "data_folder",
    "lmm_det",
    "perturbed",
    "synthetic",
    "write_run",
]
