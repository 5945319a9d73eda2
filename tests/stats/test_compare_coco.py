"""AP and AR of resampled data sets against pycocotools on data sets that are really resampled."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coordeval.metrics.coco_engine import COCO_KEYS
from coordeval.stats.coco_matches import CocoObjects, match_coco
from coordeval.stats.coco_stats import draw_coco

BOX = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 130), st.integers(1, 130))


def pycoco(num_images, num_classes, truth, detections):
    """The twelve numbers straight from pycocotools; NaN where it says -1."""
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": i + 1, "width": 300, "height": 300} for i in range(num_images)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": [
            {
                "id": number,
                "image_id": image + 1,
                "category_id": code + 1,
                "bbox": list(map(float, box)),
                "area": float(box[2] * box[3]),
                "iscrowd": int(crowd),
            }
            for number, (image, code, box, crowd) in enumerate(truth, start=1)
        ],
    }
    results = [
        {"image_id": i + 1, "category_id": k + 1, "bbox": list(map(float, box)), "score": score}
        for i, k, box, score in detections
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:
            dt = COCO()
            dt.dataset = {**gt.dataset, "annotations": []}
            dt.createIndex()
        run = COCOeval(gt, dt, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.array([np.nan if value < 0 else value for value in run.stats])


def ours(num_images, num_classes, truth, detections, weights):
    """The twelve numbers of one draw."""

    def objects(rows):
        boxes = np.array([row[2] for row in rows], dtype=float).reshape(-1, 4)
        return CocoObjects(
            image=np.array([row[0] for row in rows], dtype=np.int64),
            class_code=np.array([row[1] for row in rows], dtype=np.int64),
            boxes_xywh=boxes,
            area=boxes[:, 2] * boxes[:, 3],
        )

    matches = match_coco(
        objects(detections),
        np.array([row[3] for row in detections], dtype=float),
        objects(truth),
        np.array([row[3] for row in truth], dtype=bool),
        num_images=num_images,
        num_classes=num_classes,
    )
    drawn = draw_coco(matches, np.array([weights], dtype=np.int64))
    return np.array([drawn[key][0] for key in COCO_KEYS])


def resampled(rows, weights):
    """The rows of a data set in which image i stands weights[i] times, copies side by side."""
    starts = np.cumsum(weights) - weights
    return [
        (int(starts[row[0]]) + copy, *row[1:])
        for copy in range(max(weights, default=0))
        for row in rows
        if copy < weights[row[0]]
    ]


@st.composite
def data_set(draw):
    """A few images and classes, crowds, and detections with tied or distinct scores."""
    num_images, num_classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    image, code = st.integers(0, num_images - 1), st.integers(0, num_classes - 1)
    score = draw(st.sampled_from([st.just(1.0), st.sampled_from([0.2, 0.5]), st.floats(0, 1)]))
    truth = draw(st.lists(st.tuples(image, code, BOX, st.booleans()), max_size=10))
    near = st.sampled_from(truth).map(lambda t: t[:3]) if truth else st.tuples(image, code, BOX)
    jitter = st.tuples(*[st.integers(-4, 4)] * 4)
    loose = st.tuples(near, jitter, score).map(
        lambda v: (
            *v[0][:2],
            tuple(max(1, a + b) for a, b in zip(v[0][2], v[1], strict=True)),
            v[2],
        )
    )
    free = st.tuples(image, code, BOX, score)
    detections = draw(st.lists(st.one_of(loose, free), max_size=25))
    detections.sort(key=lambda row: row[0])
    weights = draw(st.lists(st.integers(0, 3), min_size=num_images, max_size=num_images))
    return num_images, num_classes, truth, detections, weights


@settings(max_examples=150)
@given(data_set())
def test_every_image_once_is_pycocotools(case):
    """With weight 1 for every image the twelve numbers are pycocotools' own."""
    num_images, num_classes, truth, detections, _ = case
    got = ours(num_images, num_classes, truth, detections, [1] * num_images)
    want = pycoco(num_images, num_classes, truth, detections)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@settings(max_examples=150)
@given(data_set())
def test_a_draw_is_pycocotools_on_the_resampled_data_set(case):
    """Whole weights give what pycocotools gives when images really stand that often, ties too."""
    num_images, num_classes, truth, detections, weights = case
    got = ours(num_images, num_classes, truth, detections, weights)
    want = pycoco(
        sum(weights), num_classes, resampled(truth, weights), resampled(detections, weights)
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_only_the_best_hundred_of_an_image_and_class_take_part():
    """The detection of rank 101 is cut, as COCO cuts it, also in a draw."""
    truth = [(0, 0, (10, 10, 50, 50), False), (1, 0, (10, 10, 50, 50), False)]
    wrong = [(0, 0, (200, 200, 20, 20), 0.9)] * 100
    right = [(0, 0, (10, 10, 50, 50), 0.1), (1, 0, (10, 10, 50, 50), 0.5)]
    got = ours(2, 1, truth, [*wrong, *right], [2, 3])
    want = pycoco(5, 1, resampled(truth, [2, 3]), resampled([*wrong, *right], [2, 3]))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_an_empty_draw_has_no_value():
    """Without ground truth in the draw every number is missing, not 0."""
    truth = [(0, 0, (10, 10, 50, 50), False)]
    assert np.isnan(ours(2, 1, truth, [], [0, 2])).all()


@pytest.mark.data
def test_lmm_det_subset_resampled_equals_pycocotools():
    """7,367 real detections with ties and crowds, images drawn with replacement."""
    import os
    from pathlib import Path

    if not os.environ.get("COORDEVAL_DATA"):
        pytest.skip("COORDEVAL_DATA is not set")
    folder = Path(os.environ["COORDEVAL_DATA"]) / "coco_val2017_subset"
    source = json.loads((folder / "instances_val2017_subset.json").read_text())
    results = json.loads((folder / "lmm_det_stage4_detections_subset.json").read_text())
    image_of = {image["id"]: place for place, image in enumerate(source["images"])}
    code_of = {item["id"]: place for place, item in enumerate(source["categories"])}
    # Sizes by w * h on both sides: the reference above has no annotated areas.
    truth = [
        (image_of[a["image_id"]], code_of[a["category_id"]], a["bbox"], bool(a["iscrowd"]))
        for a in source["annotations"]
    ]
    detections = [
        (image_of[d["image_id"]], code_of[d["category_id"]], d["bbox"], d["score"]) for d in results
    ]
    detections.sort(key=lambda row: row[0])
    rng = np.random.default_rng(3)
    num = len(image_of)
    weights = np.bincount(rng.integers(0, num, num), minlength=num).tolist()
    got = ours(num, len(code_of), truth, detections, weights)
    want = pycoco(num, len(code_of), resampled(truth, weights), resampled(detections, weights))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
