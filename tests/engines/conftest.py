"""Datasets, recordings and an engine for tests of the driver; nothing here needs torch."""

from __future__ import annotations

import json

import pytest

from coordeval.coords import FRAMES
from coordeval.data.canonical import sample_text
from coordeval.data.dataset import open_dataset
from coordeval.engines.base import DecodeSettings
from coordeval.parsers.dialects import dialect_named


@pytest.fixture
def dataset_path(tmp_path):
    """A dataset of 12 images (files are not there) with 0 to 3 objects each."""
    lines = []
    for index in range(12):
        objects = [
            {"desc": "第九 cat", "bbox_2d": [10 * k + 1, 5, 10 * k + 9, 40 + index]}
            for k in range(index % 4)
        ]
        record = {"id": f"im{index}", "image": f"{index}.png", "width": 64, "height": 64}
        lines.append(json.dumps(record | {"objects": objects}, ensure_ascii=False))
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def samples(dataset_path):
    """The samples of the dataset."""
    return list(open_dataset(dataset_path))


@pytest.fixture
def recording(tmp_path, samples):
    """A recorded rollout file: two rollouts of every image, the ground truth written out."""
    path = tmp_path / "recording.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        for sample in samples:
            text = sample_text(
                sample,
                dialect=dialect_named("coordjson"),
                frame=FRAMES["coordexp"],
                order="sorted",
            )
            for index in range(2):
                line = {
                    "id": sample.id,
                    "width": sample.width,
                    "height": sample.height,
                    "gt": [],
                    "text": text,
                    "sample_index": index,
                    "finish_reason": "stop",
                    "token_ids": [1, 2, 3],
                    "token_logprobs": [-0.1, -0.2, -0.3],
                }
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


@pytest.fixture
def greedy():
    """Greedy settings."""
    return DecodeSettings(max_new_tokens=256)


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory):
    """A random tiny Qwen3-VL checkpoint."""
    pytest.importorskip("torch")
    from coordeval.training.tiny.model import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", seed=0)


@pytest.fixture(scope="session")
def image_samples(tmp_path_factory):
    """Five noise images of different sizes and shapes, as samples."""
    import numpy as np
    from PIL import Image

    from coordeval.records import GroundTruthObject, Sample

    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    made = []
    for index, (width, height) in enumerate([(64, 64), (96, 40), (300, 200), (50, 90), (64, 64)]):
        path = folder / f"{index}.png"
        pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        made.append(
            Sample(
                id=f"im{index}",
                image=path.name,
                width=width,
                height=height,
                objects=(GroundTruthObject("cat", "bbox_2d", (1.0, 2.0, 30.0, 30.0)),),
                image_path=path,
            )
        )
    return made


@pytest.fixture(scope="session")
def image_dataset(image_samples):
    """The five images as a dataset file."""
    from coordeval.data.objects import write_object

    path = image_samples[0].image_path.parent / "data.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        for sample in image_samples:
            record = {"id": sample.id, "image": sample.image}
            record |= {"width": sample.width, "height": sample.height}
            record["objects"] = [write_object(obj) for obj in sample.objects]
            handle.write(json.dumps(record) + "\n")
    return path
