"""Small runs written to disk and scored, for every metrics test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coordeval.metrics.score import score_run
from coordeval.runs import open_run


def record(desc, bins, kind="bbox_2d"):
    """One record as a model writes it."""
    inner = ", ".join(f"<|coord_{k}|>" for k in bins)
    return f'{{"desc": {json.dumps(desc, ensure_ascii=False)}, "{kind}": [{inner}]}}'


def container(*records):
    """The canonical answer around records."""
    return '{"objects": [' + ", ".join(records) + "]}"


@pytest.fixture
def rec():
    """The writer of one record."""
    return record


@pytest.fixture
def text():
    """The writer of one answer."""
    return container


@pytest.fixture
def line():
    """A rollout line on a 1000 x 1000 image with sensible defaults."""

    def make(text="", gt=(), **more):
        base = {"id": more.pop("id", "a"), "width": 1000, "height": 1000}
        return base | {"gt": list(gt), "text": text} | more

    return make


@pytest.fixture
def score(tmp_path):
    """Score rollout lines as a run directory whose frame maps bin k to pixel k."""

    def run(lines, meta=None, bare=False, **options):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        lines_path = folder / "rollouts.jsonl"
        lines_path.write_text("".join(json.dumps(item) + "\n" for item in lines))
        head = {"format": "coordeval-run/1", "frame": "unit-1000"} | (meta or {})
        (folder / "run.json").write_text(json.dumps(head))
        return score_run(open_run(lines_path if bare else folder), **options)

    return run


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data; skips without it."""
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        pytest.skip("COORDEVAL_DATA is not set")
    return Path(folder)
