"""The synthetic set: seeded, valid, with COCO's counts; and the same boxes in all forms."""

import json

import numpy as np
import workload

from coordeval.metrics.score import score_run
from coordeval.runs import open_run


def test_the_same_seed_gives_the_same_set():
    """Two machines that measure the same size measure the same boxes."""
    assert workload.synthetic(20) == workload.synthetic(20)
    assert workload.synthetic(20) != workload.synthetic(20, seed=1)


def test_counts_are_like_those_of_coco():
    """Objects, detections, classes and small objects are about as many as in val2017."""
    work = workload.synthetic(400)
    truth, detections = work.truth, work.detections
    assert len(truth["categories"]) == 80
    assert 6.4 < len(truth["annotations"]) / 400 < 9
    assert 26 < len(detections) / 400 < 33
    areas = np.array([item["area"] for item in truth["annotations"]])
    assert 0.25 < (areas < 32**2).mean() < 0.55
    assert 0.002 < np.mean([item["iscrowd"] for item in truth["annotations"]]) < 0.03


def test_boxes_lie_in_their_images():
    """No evaluator is handed a box that another one would clip."""
    work = workload.synthetic(60)
    sizes = {item["id"]: (item["width"], item["height"]) for item in work.truth["images"]}
    for item in [*work.truth["annotations"], *work.detections]:
        x, y, w, h = item["bbox"]
        width, height = sizes[item["image_id"]]
        assert x >= 0
        assert y >= 0
        assert w > 0
        assert h > 0
        assert x + w <= width
        assert y + h <= height


def test_the_run_holds_every_detection(tmp_path):
    """A run directory of the set parses without a drop and gives back the boxes, to a bin."""
    work = workload.synthetic(30)
    result = score_run(open_run(workload.write_run(tmp_path, work, seed_tokens=True)))
    assert result.metrics["parse/objects_valid"] == len(work.detections)
    assert result.metrics["parse/dropped_invalid"] == 0
    assert result.metrics["samples/conforming_rate"] == 1.0
    assert len(result.coco_results) == len(work.detections)
    for found, given in zip(result.coco_results, work.detections, strict=True):
        assert (found["image_id"], found["category_id"]) == (
            given["image_id"],
            given["category_id"],
        )
        assert np.abs(np.subtract(found["bbox"], given["bbox"])).max() < 1.5
        assert found["score"] == given["score"]


def test_some_images_loop_and_a_perturbed_set_differs(tmp_path):
    """Loops are there to be found, and run B is neither run A nor far from it."""
    work = workload.synthetic(300)
    result = score_run(open_run(workload.write_run(tmp_path, work)))
    assert 0 < result.metrics["dup/loop_rate"] < 0.06
    other = workload.perturbed(work)
    assert 0.94 < len(other.detections) / len(work.detections) < 0.99
    assert json.dumps(workload.perturbed(work).detections) == json.dumps(other.detections)
