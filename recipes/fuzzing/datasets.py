"""Targets that read datasets: JSON lines, COCO, validation, class lists, foreign dumps."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from fuzzing.mutators import bend_bytes, bend_json
from fuzzing.target import FIXTURES, Target, try_each, written
from fuzzing.texts import dump_lines

if TYPE_CHECKING:
    from pathlib import Path

_TOKENS = (
    b'{"image": "a.png", "width": 9, "height": 7, "coord_space": "bins", "objects": ['
    b'{"desc": "x", "bbox_2d": ["<|coord_1|>", "<|coord_2|>", "<|coord_3|>", "<|coord_4|>"]}, '
    b'{"desc": "y", "poly": [1, 2, 3, 4, 5, 9], "iscrowd": 1, "area": 3, "category_id": 4}]}'
)


def _lines() -> list[bytes]:
    scenes = (FIXTURES / "scenes" / "heldout.jsonl").read_bytes().splitlines()
    return [b"\n".join(scenes[:4]) + b"\n", scenes[5], _TOKENS, gzip.compress(_TOKENS)]


def _coco_seeds() -> list[bytes]:
    images = [{"id": 1, "file_name": "a.png", "width": 9, "height": 7}, {"id": 2}]
    polygon: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 1, 2, 3]}
    crowd = {**polygon, "id": 2, "iscrowd": 1, "segmentation": {"size": [7, 9], "counts": [1, 62]}}
    polygon |= {"area": 6, "iscrowd": 0, "segmentation": [[0, 0, 5, 0, 5, 5]]}
    categories = [{"id": 3, "name": "cat"}]
    whole = {"images": images, "annotations": [polygon, crowd], "categories": categories}
    return [json.dumps(whole).encode(), json.dumps(whole, indent=1).encode()]


def _dataset(data: bytes, folder: Path) -> None:
    """Every sample of a JSONL file."""
    from coordeval.data.dataset import open_dataset

    for sample in open_dataset(written(data, folder, "data.jsonl"), need_images=False):
        assert sample.width > 0


def _coco(data: bytes, folder: Path) -> None:
    """Every sample of a COCO file, with boxes and with polygons."""
    from coordeval.data.dataset import open_dataset

    path = written(data, folder, "instances.json")

    def read(geometry: Any) -> None:
        dataset = open_dataset(path, need_images=False, geometry=geometry, canvas=(9, 9))
        for sample in dataset:
            assert sample.width > 0
        if dataset.coco is not None:
            dataset.coco.geometry_fallbacks()

    try_each(lambda: read("bbox"), lambda: read("poly"))


def _validate(data: bytes, folder: Path) -> None:
    """Validation and statistics finish with a report that is JSON."""
    from coordeval.data.validate import validate_dataset

    report = validate_dataset(written(data, folder, "data.json"), images="exists", workers=1)
    json.dumps(report.to_json(), allow_nan=False)


def _class_list(data: bytes, folder: Path) -> None:
    """Class lists in both forms."""
    from coordeval.data.class_list import read_class_list

    names = "names.txt", "names.json"
    try_each(*(lambda name=name: read_class_list(written(data, folder, name)) for name in names))


def _import_seeds() -> list[bytes]:
    box = {"desc": "cat", "bbox_2d": [1, 2, 3, 4]}
    sample: dict[str, Any] = {"width": 9, "height": 9, "rollout_text": "x<|im_end|>"}
    sample |= {"gt_objects": [box], "sample_id": 4, "token_ids": [1, 2], "images": ["a"]}
    sample |= {"token_logprobs": [-1, -2], "stats": {"parse_dropped_invalid": 1}, "error": None}
    header = {"global_step": 7, "meta": {"decode_mode": "greedy"}, "samples": [sample]}
    return [json.dumps(header).encode(), json.dumps([sample]).encode(), *dump_lines()[:4]]


def _import(data: bytes, folder: Path) -> None:
    """Foreign dumps as documents and as rows: a sample is read, or left out for a reason."""
    from coordeval.coords import frame_named
    from coordeval.exchange.dump_files import find_dumps, read_rows, read_trace
    from coordeval.exchange.dump_rows import NotImportable, import_row

    frame = frame_named("coordexp")

    def read(name: str) -> None:
        (dump,) = find_dumps([written(data, folder, name)])
        read_trace(dump)
        for row in read_rows(dump):
            try:
                import_row(row, frame=frame, gt_space="pixels", trace_text="")
            except NotImportable:
                continue

    try_each(lambda: read("step_7.json"), lambda: read("rollouts.jsonl"))


TARGETS = (
    Target(name="dataset", run=_dataset, seeds=_lines, weight=2),
    Target(name="coco", run=_coco, seeds=_coco_seeds),
    Target(name="validate", run=_validate, seeds=lambda: [*_lines(), *_coco_seeds()]),
    Target(
        name="class list",
        run=_class_list,
        seeds=lambda: [b"cat\ndog\n", b'["cat", "dog"]'],
        mutators=(bend_bytes, bend_json),
        weight=0.5,
    ),
    Target(name="import", run=_import, seeds=_import_seeds),
)

__all__ = ["TARGETS"]
