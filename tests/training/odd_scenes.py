"""Small datasets of noise images with awkward sizes and descriptions, and a reader for them."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_reader
from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint

SMALL = TinyConfig(
    hidden=32,
    layers=2,
    heads=2,
    head_dim=16,
    feed_forward=32,
    vision_depth=2,
    vision_hidden=32,
    vision_heads=2,
    vision_feed_forward=32,
    init_std=0.2,
    coord_features=False,
)
SIZES = [(64, 64), (100, 37), (31, 90), (16, 16), (200, 150), (48, 80), (5, 300), (96, 96)]
DESCRIPTIONS = ["red circle", "猫 cat", 'a "quoted" one', "🐈‍⬛", "end!", "b\\c", "tab\there"]


def tiny_checkpoint(folder):
    """A small random checkpoint in a folder."""
    return resolve_checkpoint(str(write_random_checkpoint(folder, seed=3, config=SMALL)))


def tiny_reader(folder):
    """The reader of a small random checkpoint that is written into the folder."""
    return load_reader(tiny_checkpoint(folder))


def scene(index, num_objects):
    """A record with its size from SIZES and that many boxes inside the image."""
    width, height = SIZES[index % len(SIZES)]
    rng = np.random.default_rng(index)
    objects = []
    for number in range(num_objects):
        x1, y1 = rng.uniform(0, width - 2), rng.uniform(0, height - 2)
        box = [x1, y1, rng.uniform(x1 + 1, width), rng.uniform(y1 + 1, height)]
        desc = DESCRIPTIONS[(index + number) % len(DESCRIPTIONS)]
        objects.append({"desc": desc, "bbox_2d": [round(value, 2) for value in box]})
    return {
        "id": f"s{index}",
        "image": f"{index}.png",
        "width": width,
        "height": height,
        "objects": objects,
    }


def write_dataset(folder, records, *, name="data.jsonl", images=True):
    """Write records as JSONL with a noise image of each record's size beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records if images else ():
        rng = np.random.default_rng(len(record["image"]))
        pixels = rng.integers(0, 255, (record["height"], record["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / record["image"])
    path = folder / name
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def odd_dataset(folder, count=8):
    """A dataset of `count` scenes with 0 to 4 boxes each."""
    return write_dataset(folder, [scene(index, index % 5) for index in range(count)])
