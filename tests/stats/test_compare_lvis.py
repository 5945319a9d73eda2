"""Intervals of federated AP: a draw is LVIS on a data set that is really resampled."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import DIALECTS
from coordeval.runs import Run
from coordeval.stats.comparison import CompareOptions, compare_runs
from coordeval.stats.replicates import replicate

METRICS = Path(__file__).parents[1] / "metrics"
sys.path.insert(0, str(METRICS))

from lvis_reference import federated_ap  # noqa: E402

OFFICIAL = json.loads((METRICS / "lvis_official.json").read_text(encoding="utf-8"))["cases"]
KEYS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *("AR@300", "ARs@300", "ARm@300", "ARl@300"),
)
PIXELS = DIALECTS["coordjson-pixels"]


def write_run(folder, document, detections):
    """A run directory that says what a document and its detections say."""
    names = {c["id"]: c["name"] for c in document["categories"]}
    lines = []
    for image in document["images"]:
        own = [d for d in detections if d["image_id"] == image["id"]]
        records = [_record(names[d["category_id"]], d["bbox"]) for d in own]
        truth = [
            json.loads(_record(names[a["category_id"]], a["bbox"]))
            | {"area": a["area"], "category_id": a["category_id"]}
            for a in document["annotations"]
            if a["image_id"] == image["id"]
        ]
        lists = {key: image[key] for key in image if key.endswith("category_ids")}
        lines.append(
            {
                "id": f"{image['id']:05d}",
                "width": image["width"],
                "height": image["height"],
                "gt": truth,
                "text": '{"objects": [' + ", ".join(records) + "]}",
                "scores": [d["score"] for d in own],
                **lists,
            }
        )
    folder.mkdir()
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    categories = [
        {key: c[key] for key in ("id", "name", "frequency")} for c in document["categories"]
    ]
    meta = {"format": "coordeval-run/1", "status": "complete", "categories": categories}
    meta["dialect"] = PIXELS.to_json()
    (folder / "run.json").write_text(json.dumps(meta))
    return Run(path=folder, rollouts_path=path, meta=meta)


def _record(name, box):
    x, y, w, h = box
    return f'{{"desc": "{name}", "bbox_2d": [{x}, {y}, {x + w}, {y + h}]}}'


def scene(seed, num_images=5):
    """A random federated document with detections, ties and objects of all sizes among them."""
    rng = random.Random(seed)

    def box():
        size = rng.choice([30, 90, 150])
        return [rng.randrange(200), rng.randrange(120), *(rng.randrange(8, size) for _ in "wh")]

    document = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [
        {"id": number, "name": f"thing {number}", "frequency": "rcf"[number % 3]}
        for number in range(1, 7)
    ]
    detections = []
    for image in range(1, num_images + 1):
        present = rng.sample(range(1, 6), 2)
        absent = rng.sample([c for c in range(1, 7) if c not in present], 2)
        lists = {
            "neg_category_ids": absent,
            "not_exhaustive_category_ids": rng.sample(present + absent, rng.randrange(3)),
        }
        document["images"].append({"id": image, "width": 400, "height": 300} | lists)
        for category in present * rng.randrange(1, 3):
            x, y, w, h = box()
            number = len(document["annotations"]) + 1
            facts = {"id": number, "image_id": image, "category_id": category, "area": w * h}
            document["annotations"].append(facts | {"bbox": [x, y, w, h]})
            near = [x + rng.randrange(6), y + rng.randrange(6), w, h]
            detections.append(_detection(rng, image, category, near))
        detections += [_detection(rng, image, rng.randrange(1, 7), box()) for _ in range(6)]
    return document, detections


def _detection(rng, image, category, box):
    score = rng.choice([0.5, 0.5, rng.random()])
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def resampled(document, detections, weights):
    """The document in which image i stands weights[i] times, copies side by side."""
    made, found, number = document | {"images": [], "annotations": []}, [], 0
    for image, times in zip(document["images"], weights, strict=True):
        for _ in range(times):
            number += 1
            made["images"].append(image | {"id": number})
            for source, target in (
                (document["annotations"], made["annotations"]),
                (detections, found),
            ):
                target += [
                    item | {"image_id": number}
                    for item in source
                    if item["image_id"] == image["id"]
                ]
    return made, found


@pytest.mark.parametrize("seed", range(10))
def test_a_draw_is_federated_ap_of_the_resampled_data_set(tmp_path, seed):
    """Whole weights give what the plain reference gives where images really stand that often."""
    document, detections = scene(seed)
    result = score_run(write_run(tmp_path / "run", document, detections))
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, 5)).astype(np.int32)
    (got,) = replicate([result], weights, coco_draws=3)
    for row, drawn in enumerate([np.ones(5, dtype=int), *weights]):
        want = federated_ap(*resampled(document, detections, drawn.tolist()))
        for key in KEYS:
            values = got.values.get(f"lvis/{key}")
            if values is None or row >= len(values):  # no value in the run; APs, APm, APl: fewer
                assert want[key] is None or row >= 2, key
                continue
            expected = np.nan if want[key] is None else want[key]
            np.testing.assert_allclose(values[row], expected, rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("case", range(len(OFFICIAL)))
def test_every_image_once_is_the_lvis_package(tmp_path, case):
    """Recorded results of lvis 0.5.3 are the first replicate, also with 330 detections an image."""
    recorded = OFFICIAL[case]
    result = score_run(
        write_run(tmp_path / "run", _with_areas(recorded["ground_truth"]), recorded["detections"])
    )
    num = result.columns.num_images
    (got,) = replicate([result], np.ones((2, num), dtype=np.int32), coco_draws=2)
    for key, value in recorded["results"].items():
        values = got.values.get(f"lvis/{key}")
        assert (values is None) == (value == -1), key
        if values is not None:
            np.testing.assert_allclose(values, value, rtol=0, atol=1e-12, err_msg=key)


def _with_areas(document):
    annotations = [{"area": a["bbox"][2] * a["bbox"][3]} | a for a in document["annotations"]]
    return document | {"annotations": annotations}


def test_counts_of_detections_are_resampled_too(tmp_path):
    """Images, unjudged ones and those over the limit are sums over the drawn images."""
    document, detections = scene(3)
    del document["images"][4]["neg_category_ids"]
    del document["images"][4]["not_exhaustive_category_ids"]
    detections += [
        {"image_id": 2, "category_id": 6, "bbox": [k % 300, k // 300, 9, 9], "score": 0.01}
        for k in range(310)
    ]
    result = score_run(write_run(tmp_path / "run", document, detections))
    weights = np.array([[0, 2, 1, 0, 2], [1, 0, 2, 0, 2]], dtype=np.int32)
    (got,) = replicate([result], weights, coco_draws=2)
    assert got.values["lvis/images"].tolist() == [4, 3, 3]
    assert result.metrics["lvis/over_limit"] > 0
    once = result.metrics["lvis/over_limit"]
    assert got.values["lvis/over_limit"].tolist() == [once, 2 * once, 0]
    assert got.values["lvis/unjudged"][0] == result.metrics["lvis/unjudged"]


def test_compare_judges_federated_ap(tmp_path):
    """A run that loses half of its right boxes is worse in `lvis/AP`, with an interval that says so."""
    document, detections = scene(1, num_images=40)
    right = [d for place, d in enumerate(detections) if place % 2]
    runs = [
        write_run(tmp_path / "a", document, _truth_of(document) + detections),
        write_run(tmp_path / "b", document, right),
    ]
    comparison = compare_runs(runs, CompareOptions(draws=200, coco_draws=60))
    change = comparison.versus[0].changes["lvis/AP"]
    assert change.headline
    assert change.verdict == "worse"
    assert change.low <= change.delta <= change.high < 0
    for key in ("APr", "APc", "APf", "AP50", "AP75", "AR@300", "APs", "APm", "APl"):
        assert comparison.versus[0].changes[f"lvis/{key}"].low is not None, key
    same = compare_runs([runs[1], runs[1]], CompareOptions(draws=200, coco_draws=60))
    assert same.versus[0].changes["lvis/AP"].verdict == "~"


def _truth_of(document):
    return [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.99}
        for a in document["annotations"]
    ]
