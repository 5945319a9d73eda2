"""All evaluators on one run: what each says, what explains the differences, and who is missing."""

import json
import subprocess
import sys
from pathlib import Path

import bench_scoring
import coco_engines
import pytest
import workload
from children import last_json

IMAGES = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    bench_scoring.prepare(folder, workload.synthetic(IMAGES))
    return folder


def numbers_of(name, folder):
    if coco_engines.missing(name) is not None:
        pytest.skip(f"needs {coco_engines.missing(name)}")
    found = last_json(coco_engines.__file__, [name, str(folder)])
    assert found["peak_bytes"] > found["before_bytes"] > 0
    assert found["cpu"] > 0
    return found["numbers"]


@pytest.fixture(scope="module")
def reference(prepared):
    return numbers_of("pycocotools", prepared)


@pytest.mark.parametrize(
    "name",
    ["coordeval score_run", "coordeval score (with tables)", "hotcoco", "faster-coco-eval"],
)
def test_engines_say_the_same(name, prepared, reference):
    """Fed with the same boxes in the same order, these give pycocotools' twelve numbers."""
    assert numbers_of(name, prepared) == pytest.approx(reference, abs=1e-12)
    assert 0.1 < reference[0] < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchmetrics", "torchmetrics, faster backend"])
def test_torchmetrics_differs_by_its_grids_alone(name, prepared):
    """Its numbers are pycocotools' on thresholds of float32; boxes of float32 explain the rest."""
    expected = numbers_of("pycocotools, float32 grids", prepared)
    assert numbers_of(name, prepared) == pytest.approx(expected, abs=2e-5)


def test_peers_get_every_box_that_was_found(prepared):
    """The results list that the peers are given is what the run's texts hold."""
    detections = json.loads((prepared / "detections.json").read_bytes())
    assert len(detections) == len(workload.synthetic(IMAGES).detections)


def test_a_missing_peer_has_a_row_that_says_so(monkeypatch):
    """Nothing disappears from the tables for want of a package."""
    monkeypatch.setattr(coco_engines, "installed", lambda package: None)
    monkeypatch.setattr(coco_engines, "TORCHVISION", Path("/nowhere"))
    assert coco_engines.missing("hotcoco") is None
    result = {
        "cpu": 1.0,
        "wall": 1.0,
        "before_bytes": 1,
        "peak_bytes": 2,
        "numbers": [0.5] * 12,
    }
    results = {
        name: [result] for name in coco_engines.ENGINES if coco_engines.missing(name) is None
    }
    for table in (
        bench_scoring.cost_table("t", results),
        bench_scoring.numbers_table("t", results),
    ):
        rows = {row[0]: row for row in table.rows}
        assert set(coco_engines.ENGINES) <= set(rows)
        assert rows["faster-coco-eval"][1] == "not installed (faster-coco-eval)"
        assert rows["torchmetrics"][1] == "not installed (torchmetrics)"
        assert rows["pycocotools"][1] != rows["torchmetrics"][1]


def test_an_engine_that_fails_is_no_row(prepared):
    """A name that is none, or a folder without a run, ends with an error instead of numbers."""
    done = subprocess.run(
        [sys.executable, coco_engines.__file__, "pycocotools", str(prepared / "nowhere")],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
