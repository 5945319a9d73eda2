"""COCO numbers against pycocotools' own and against published ones, by both engines."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coordeval.metrics.coco_engine import (
    COCO_KEYS,
    CocoDetections,
    CocoTruth,
    default_engine,
    engine_versions,
    evaluate,
)

ENGINES = ["hotcoco", "pycocotools"]


def reference(truth, results, kind="bbox"):
    """The twelve numbers straight from pycocotools, from files' content."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(results), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {key: None if v < 0 else v for key, v in zip(COCO_KEYS, run.stats, strict=True)}


def rle(truth, item):
    """Any COCO segmentation as run lengths."""
    image = next(image for image in truth["images"] if image["id"] == item["image_id"])
    shape = image["height"], image["width"]
    raw = item["segmentation"]
    if isinstance(raw, list):
        return mask_api.merge(mask_api.frPyObjects(raw, *shape))
    return mask_api.frPyObjects(raw, *shape) if isinstance(raw["counts"], list) else raw


def truth_columns(truth, masks=False):
    """A COCO ground-truth file as columns."""
    items = truth["annotations"]
    return CocoTruth(
        image_ids=np.array([image["id"] for image in truth["images"]]),
        sizes_wh=np.array([(i.get("width", 0), i.get("height", 0)) for i in truth["images"]]),
        category_ids=np.array([item["id"] for item in truth["categories"]]),
        object_image=np.array([item["image_id"] for item in items]),
        object_category=np.array([item["category_id"] for item in items]),
        boxes_xywh=np.array([item["bbox"] for item in items], dtype=float).reshape(-1, 4),
        area=np.array([item["area"] for item in items], dtype=float),
        crowd=np.array([bool(item.get("iscrowd", 0)) for item in items]),
        masks=[rle(truth, item) for item in items] if masks else None,
    )


def detection_columns(truth, results, masks=False):
    """COCO results as columns."""
    blank = [0.0, 0.0, 0.0, 0.0]
    return CocoDetections(
        object_image=np.array([item["image_id"] for item in results], dtype=np.int64),
        object_category=np.array([item["category_id"] for item in results], dtype=np.int64),
        boxes_xywh=np.array([i.get("bbox", blank) for i in results], dtype=float).reshape(-1, 4),
        scores=np.array([item["score"] for item in results], dtype=float),
        masks=[rle(truth, item) for item in results] if masks else None,
    )


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_cocoapi100_gives_its_published_numbers(data_dir, engine, kind):
    """The demo set of the COCO API, boxes and masks, all twelve numbers."""
    expected = json.loads((data_dir / "metrics/expected.json").read_text())
    truth = json.loads((data_dir / "metrics/cocoapi100/instances_val2014_100.json").read_text())
    entry = expected[f"cocoapi100/{kind}"]
    results = json.loads((data_dir / entry["dt"]).read_text())
    masks = kind == "segm"
    got = evaluate(
        truth_columns(truth, masks), detection_columns(truth, results, masks), engine
    ).stats
    assert got == pytest.approx(entry["published"], abs=1e-12)


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["hotcoco/edge", "hotcoco/zero", "hotcoco/gt+dt"])
def test_edge_files_equal_pycocotools(data_dir, engine, name):
    """Crowds, ids from 0 and small sets: the same numbers as pycocotools on the files."""
    stem = {"hotcoco/edge": "edge_", "hotcoco/zero": "zero_", "hotcoco/gt+dt": ""}[name]
    folder = data_dir / "metrics/hotcoco"
    truth = json.loads((folder / f"{stem}gt.json").read_text())
    results = json.loads((folder / f"{stem}dt.json").read_text())
    results = [{k: v for k, v in item.items() if k != "segmentation"} for item in results]
    # pycocotools takes a match with annotation id 0 for none; the columns number from 1.
    truth["annotations"] = [
        item | {"id": number} for number, item in enumerate(truth["annotations"], start=1)
    ]
    got = evaluate(truth_columns(truth), detection_columns(truth, results), engine).stats
    assert got == pytest.approx(reference(truth, results), abs=1e-12)


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
def test_lmm_det_subset_equals_pycocotools(data_dir, engine):
    """7,367 tied detections with crowds: all twelve numbers."""
    folder = data_dir / "coco_val2017_subset"
    truth = json.loads((folder / "instances_val2017_subset.json").read_text())
    results = json.loads((folder / "lmm_det_stage4_detections_subset.json").read_text())
    got = evaluate(truth_columns(truth), detection_columns(truth, results), engine)
    assert got.stats == pytest.approx(reference(truth, results), abs=1e-12)
    mean = np.mean([value for value in got.ap_by_category.values() if value is not None])
    assert mean == pytest.approx(got.stats["AP"], abs=1e-12)


def random_set(seed, images=6, classes=3, detections=400, score_steps=5):
    """A ground truth with crowds and many tied detections around it."""
    rng = np.random.default_rng(seed)
    annotations = []
    for number in range(60):
        x, y = rng.integers(0, 400, 2).tolist()
        w, h = rng.integers(4, 150, 2).tolist()
        annotations.append(
            {
                "id": number + 1,
                "image_id": int(rng.integers(1, images + 1)),
                "category_id": int(rng.integers(1, classes + 1)),
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": int(rng.random() < 0.15),
            }
        )
    results = []
    for _ in range(detections):
        near = annotations[int(rng.integers(0, len(annotations)))]
        shift = rng.integers(-8, 9, 4)
        x, y, w, h = (int(v) for v in np.maximum(np.add(near["bbox"], shift), 1))
        results.append(
            {
                "image_id": near["image_id"],
                "category_id": near["category_id"],
                "bbox": [x, y, w, h],
                "score": int(rng.integers(1, score_steps + 1)) / score_steps,
            }
        )
    truth = {
        "info": {},
        "images": [{"id": k + 1, "width": 640, "height": 640} for k in range(images)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
        "annotations": annotations,
    }
    return truth, results


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (0, {}),
        (1, {"score_steps": 1}),
        (2, {"images": 1, "classes": 1, "detections": 500}),
        (3, {"images": 2, "classes": 1, "detections": 450, "score_steps": 2}),
    ],
    ids=["ties", "constant scores", "500 of one class", "over 100 a class, tied"],
)
def test_random_sets_equal_pycocotools(engine, seed, options):
    """Ties, crowds and more than 100 detections of a class change nothing."""
    truth, results = random_set(seed, **options)
    got = evaluate(truth_columns(truth), detection_columns(truth, results), engine).stats
    assert got == pytest.approx(reference(truth, results), abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_detections_score_zero_and_no_ground_truth_scores_nothing(engine):
    """AP 0 without detections, null without ground truth, null for absent sizes."""
    truth, results = random_set(0)
    small = [item for item in truth["annotations"] if item["area"] < 32 * 32]
    truth["annotations"] = [item for item in small if not item["iscrowd"]]
    stats = evaluate(truth_columns(truth), detection_columns(truth, []), engine).stats
    assert (stats["AP"], stats["APs"], stats["APl"]) == (0.0, 0.0, None)
    truth["annotations"] = []
    stats = evaluate(truth_columns(truth), detection_columns(truth, results), engine).stats
    assert set(stats.values()) == {None}
    assert set(
        evaluate(truth_columns(truth), detection_columns(truth, []), engine).stats.values()
    ) == {None}


def test_pycocotools_serves_where_hotcoco_does_not_import(monkeypatch):
    """The engine that computed the numbers is known and stored with its version."""
    assert set(engine_versions()) >= {"pycocotools", default_engine()}
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert default_engine() == "pycocotools"
    assert set(engine_versions()) == {"pycocotools"}
    truth, results = random_set(0, detections=20)
    got = evaluate(truth_columns(truth), detection_columns(truth, results)).stats
    assert got == pytest.approx(reference(truth, results), abs=1e-12)


boxes = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(5, 30),
    st.integers(5, 30),
).map(lambda v: (v[0], (v[1], v[2], v[1] + v[3], v[2] + v[4])))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.lists(boxes, max_size=6), st.lists(boxes, max_size=4)), min_size=1, max_size=3
    )
)
def test_the_tie_range_contains_ap(score, line, rec, text, images):
    """AP_tie_min <= AP <= AP_tie_max; all three are equal where nothing is tied."""
    lines = [
        line(
            text(*(rec(*one) for one in pred)),
            [{"desc": desc, "bbox_2d": list(values)} for desc, values in gt],
            id=str(number),
        )
        for number, (pred, gt) in enumerate(images)
    ]
    metrics = score(lines).metrics
    low, ap, high = (metrics[f"coco/{key}"] for key in ("AP_tie_min", "AP", "AP_tie_max"))
    if ap is None:
        assert low is None
        assert high is None
    else:
        assert low <= ap <= high
    place = iter(range(1000, 0, -1))
    for item, (pred, _) in zip(lines, images, strict=True):
        item["scores"] = [next(place) / 1000 for _ in pred]
    metrics = score(lines).metrics
    assert metrics["coco/AP_tie_min"] == metrics["coco/AP"] == metrics["coco/AP_tie_max"]


def test_the_tie_range_is_reached(score, line, rec, text):
    """A wrong and a right box of equal score: AP 1 with the right one first, 1/2 with it last."""
    wrong, right = rec("a", (500, 500, 600, 600)), rec("a", (0, 0, 100, 100))
    gt = [{"desc": "a", "bbox_2d": [0, 0, 100, 100]}]
    for order in ((wrong, right), (right, wrong)):
        metrics = score([line(text(*order), gt)]).metrics
        assert metrics["coco/AP_tie_max"] == pytest.approx(1.0)
        assert metrics["coco/AP_tie_min"] == pytest.approx(0.5)
    assert metrics["coco/AP"] == pytest.approx(1.0)
    assert metrics["score/tied_frac"] == 1.0


def test_renumbering_images_does_not_move_ap(score, line, rec, text):
    """Ties are kept in the order of the run, whatever the image ids are."""
    gt = [{"desc": "a", "bbox_2d": [0, 0, 100, 100]}]
    lines = [
        line(text(rec("a", (0, 0, 100 - 20 * k, 100))), gt if k != 1 else [], id=str(k))
        for k in range(3)
    ]
    plain = score(lines).metrics["coco/AP"]
    for number, item in zip((9, 4, 1), lines, strict=True):
        item["image_id"] = number
    result = score(lines)
    assert result.metrics["coco/AP"] == plain
    assert [item["image_id"] for item in result.coco_results] == [9, 4, 1]
