"""Small runs on disk, scored and labelled as a report shows them."""

import json

import pytest

from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.runs import open_run


def record(desc, *bins):
    """One record as a model writes it."""
    inner = ", ".join(f"<|coord_{k}|>" for k in bins)
    return f'{{"desc": {json.dumps(desc)}, "bbox_2d": [{inner}]}}'


def answer(*records):
    """The canonical answer around records."""
    return '{"objects": [' + ", ".join(records) + "]}"


def rollout_line(text="", gt=(), **more):
    """A rollout line on a 1000 x 1000 image."""
    base = {"id": "a", "width": 1000, "height": 1000, "gt": list(gt), "text": text}
    return base | more


@pytest.fixture
def rec():
    """The writer of one record."""
    return record


@pytest.fixture
def text():
    """The writer of one answer."""
    return answer


@pytest.fixture
def line():
    """The writer of one rollout line."""
    return rollout_line


@pytest.fixture
def run_dir(tmp_path):
    """Write a run directory whose frame maps bin k to pixel k."""

    def make(lines, name="run", **meta):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "rollouts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
        head = {"format": "coordeval-run/1", "frame": "unit-1000"} | meta
        (folder / "run.json").write_text(json.dumps(head))
        return folder

    return make


@pytest.fixture
def show(run_dir):
    """Score lines as a run and label it."""

    def make(lines, name="run", **meta):
        run = open_run(run_dir(lines, name, **meta))
        return shown_runs([(run, score_run(run))])[0]

    return make
