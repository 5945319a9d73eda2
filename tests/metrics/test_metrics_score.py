"""Whole runs: the acceptance numbers, what is written, and when a run is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from coordeval.errors import DataError
from coordeval.metrics.catalogue import describe
from coordeval.metrics.write import write_score

from test_metrics_coco import reference  # isort: skip


def lmm_det_lines(data_dir, rec, text):
    """LMM-Det's detections as coordinate-token texts, with the boxes that these texts mean."""
    folder = data_dir / "coco_val2017_subset"
    truth = json.loads((folder / "instances_val2017_subset.json").read_text())
    found = json.loads((folder / "lmm_det_stage4_detections_subset.json").read_text())
    names = {item["id"]: item["name"] for item in truth["categories"]}
    lines, on_grid = [], []
    for image in truth["images"]:
        side = max(image["width"], image["height"])
        mine = [item for item in found if item["image_id"] == image["id"]]
        records = []
        for item in mine:
            x, y, w, h = item["bbox"]
            bins = [min(round(v * 1000 / side), 999) for v in (x, y, x + w, y + h)]
            records.append(rec(names[item["category_id"]], bins))
            px = [k / 1000 * side for k in bins]
            on_grid.append(item | {"bbox": [px[0], px[1], px[2] - px[0], px[3] - px[1]]})
        gt = [
            {
                "desc": names[item["category_id"]],
                "bbox_2d": [x, y, x + w, y + h],
                "area": item["area"],
                "iscrowd": item["iscrowd"],
                "category_id": item["category_id"],
            }
            for item in truth["annotations"]
            if item["image_id"] == image["id"]
            for x, y, w, h in [item["bbox"]]
        ]
        lines.append(
            {
                "id": str(image["id"]),
                "image_id": image["id"],
                "width": image["width"],
                "height": image["height"],
                "gt": gt,
                "text": text(*records),
                "scores": [item["score"] for item in mine],
            }
        )
    categories = [{"id": item["id"], "name": item["name"]} for item in truth["categories"]]
    return lines, categories, truth, on_grid


@pytest.mark.data
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_lmm_det_as_texts_scores_like_its_boxes(score, rec, text, data_dir, engine):
    """AP .509999 and AP50 .695921 to 1e-6, and what pycocotools says of the same boxes."""
    lines, categories, truth, on_grid = lmm_det_lines(data_dir, rec, text)
    result = score(lines, meta={"frame": "square-1000", "categories": categories}, engine=engine)
    assert result.metrics["parse/objects_valid"] == len(on_grid)
    assert result.metrics["coco/AP"] == pytest.approx(0.509999, abs=1e-6)
    assert result.metrics["coco/AP50"] == pytest.approx(0.695921, abs=1e-6)
    want = reference(truth, on_grid)
    assert {key: result.metrics[f"coco/{key}"] for key in want} == pytest.approx(want, abs=1e-9)
    assert [item["score"] for item in result.coco_results] == [item["score"] for item in on_grid]


def mixed_run(line, rec, text):
    """A run in which nearly everything happens."""
    gt = [
        {"desc": "cat", "bbox_2d": [0, 0, 100, 100]},
        {"desc": "dog", "poly": [0, 0, 90, 0, 0, 90]},
        {"desc": "dog", "bbox_2d": [500, 500, 900, 900], "iscrowd": 1},
    ]
    return [
        line(
            text(
                rec("cat", (0, 0, 100, 100)),
                rec("cat", (0, 0, 101, 100)),
                rec("dog", (0, 0, 90, 0, 0, 90), "poly"),
                rec("dog", (500, 500, 600, 600)),
                rec("ufo", (1, 2, 3, 4)),
                rec("x", (1, 2, 3), "bbox_3d"),
                rec("cat", (1, 2, 3)),
                rec("road", (0, 0, 5, 5), "line"),
            ),
            gt,
        ),
        line(text(), [], id="b"),
        line("prose \ud83d", gt, id="c"),
        line("", gt, id="d", finish_reason="error", error="out of memory"),
        line(text(*[rec("kite", (1, 2, 30, 40))] * 6)[:-9], gt, id="e", finish_reason="length"),
    ]


@pytest.mark.parametrize("protocol", ["coordeval", "coordexp", "rex-omni"])
def test_every_emitted_key_is_in_the_catalogue(score, line, rec, text, protocol):
    """No key without a meaning, no value outside its range, nothing but numbers and null."""
    from coordeval.metrics.protocols import protocol_named

    metrics = score(mixed_run(line, rec, text), protocol=protocol_named(protocol)).metrics
    for key, value in metrics.items():
        info = describe(key)
        assert info is not None, key
        assert value is None or type(value) in (int, float), key
        if value is not None:
            assert info.low is None or value >= info.low, key
            assert info.high is None or value <= info.high, key


def test_a_score_is_written_and_read_back(score, line, rec, text, tmp_path):
    """metrics.json is strict JSON with its format; the tables hold what the numbers sum."""
    result = score(mixed_run(line, rec, text))
    write_score(result, tmp_path / "score")
    stored = json.loads((tmp_path / "score/metrics.json").read_text())
    assert stored["format"] == "coordeval-metrics/1"
    assert stored["metrics"] == result.metrics
    assert stored["protocol"]["name"] == "coordeval"
    assert {"parser", "metrics", "pycocotools"} <= set(stored["versions"])
    images = pd.read_parquet(tmp_path / "score/per_image.parquet")
    assert images["id"].tolist() == ["a", "b", "c", "d", "e"]
    drops = images[[name for name in images if name.startswith("drop_")]].to_numpy().sum()
    assert drops == result.metrics["parse/dropped_invalid"]
    for name in ("tp", "fp", "fn"):
        assert images[f"{name}@0.75"].sum() == result.metrics[f"f1/0.75/{name}"]
        assert images[f"loc_{name}@0.50"].sum() == result.metrics[f"f1_loc/0.50/{name}"]
        assert images[f"dedup_{name}@0.50"].sum() == result.metrics[f"f1_dedup/0.50/{name}"]
    objects = pd.read_parquet(tmp_path / "score/objects.parquet")
    predictions = objects[objects["role"] == "pred"]
    assert len(predictions) == result.metrics["parse/objects_found"]
    verdicts = predictions["verdict"].value_counts()
    assert verdicts["right"] == result.metrics["f1/0.50/tp"]
    assert verdicts["wrong"] == result.metrics["f1/0.50/fp"]
    assert verdicts["unscored"] == 1
    assert (objects["verdict"] == "missed").sum() == result.metrics["f1/0.50/fn"]
    assert len(pd.read_parquet(tmp_path / "score/per_class.parquet")) == 3
    assert json.loads((tmp_path / "score/coco_results.json").read_text()) == result.coco_results


def test_text_that_is_not_unicode_is_stored_as_an_escape(score, line, rec, text, tmp_path):
    """A lone surrogate in an id or a ground-truth name stops no table from being written."""
    gt = [{"desc": "cat \ud83d", "bbox_2d": [0, 0, 9, 9]}]
    write_score(score([line(text(rec("a", (0, 0, 9, 9))), gt, id="a\ud83d")]), tmp_path / "s")
    objects = pd.read_parquet(tmp_path / "s/objects.parquet")
    assert objects["id"].tolist() == ["a\\ud83d"] * 2
    assert "cat \\ud83d" in pd.read_parquet(tmp_path / "s/per_class.parquet")["class"].tolist()


def test_an_empty_run_has_null_ratios_and_says_so(score, line, tmp_path):
    """Nothing to evaluate: status empty, every ratio null, and still a score on disk."""
    result = score([])
    assert result.status == "empty"
    assert result.metrics["f1/0.50/f1"] is None
    assert result.metrics["coco/AP"] is None
    assert result.metrics["samples/conforming_rate"] is None
    write_score(result, tmp_path / "score")
    assert score([line("", [], error="boom")]).status == "empty"


def test_status_follows_the_run(score, line, text):
    """A run that says it is unfinished is partial; bare files are complete."""
    lines = [line(text(), [])]
    assert score(lines, meta={"status": "running"}).status == "partial"
    assert score(lines, meta={"status": "complete"}).status == "complete"
    assert score(lines, bare=True).status == "complete"


def test_an_id_twice_is_refused(score, line, text):
    """The message names run, id and place; another sample_index is another sample."""
    with pytest.raises(DataError, match=r"^/.*: id 'a' .*twice, again as rollout 2;"):
        score([line(text(), []), line(text(), [])])
    score([line(text(), []), line(text(), [], sample_index=1)])


def test_the_order_of_failures_names_the_worst_images(score, line, rec, text):
    """Wrong, missed and dropped objects count; images without any are left out."""
    result = score(mixed_run(line, rec, text))
    worst = result.worst_images(2)
    assert [image.id for image in worst] == ["e", "a"]
    assert worst[0].failures == 6 + 2 + 0 + (6 - result.columns.images[4].num_valid) * 0
    assert worst[0].loop
    assert "b" not in {image.id for image in result.worst_images(99)}


def test_pixel_dialects_and_frames_mean_the_same_boxes(score, line):
    """Integers that are pixels, and bins of the default frame, find the same object."""
    from coordeval.parsers.dialects import DIALECTS

    gt = [{"desc": "a", "bbox_2d": [0, 0, 500, 250]}]
    pixels = '{"objects": [{"desc": "a", "bbox_2d": [0, 0, 500, 250]}]}'
    item = line(pixels, gt) | {"width": 1000, "height": 500}
    result = score([item], dialect=DIALECTS["coordjson-pixels"])
    assert result.metrics["f1/0.95/tp"] == 1
    result = score([item], dialect=DIALECTS["coordjson-bins"])
    assert result.metrics["f1/0.95/tp"] == 0
    assert result.reading["dialect"]["coordinates"] == "bin_int"


def test_predictions_outside_the_image_are_counted_not_clipped(score, line, rec, text):
    """The padded part of a square frame lies outside a wide image."""
    item = line(text(rec("a", (0, 0, 500, 999)), rec("a", (0, 0, 500, 400))), [])
    result = score([item | {"width": 1000, "height": 500}], meta={"frame": "square-1000"})
    assert result.metrics["count/outside_image"] == 1
    assert result.columns.pred.shapes.boxes[0].tolist() == [0.0, 0.0, 500.0, 999.0]


def test_scoring_does_not_depend_on_the_order_of_lines(score, line, rec, text):
    """F1, health and repeats are sums over images; only ties could notice the order."""
    lines = mixed_run(line, rec, text)
    forward, backward = score(lines).metrics, score(lines[::-1]).metrics
    same = [key for key in forward if not key.startswith("coco")]
    assert {key: forward[key] for key in same} == {key: backward[key] for key in same}
    assert np.isfinite([value for value in forward.values() if value is not None]).all()
