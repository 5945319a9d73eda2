"""Exports: each read back by the tool's own rules, and equal to the run's numbers."""

import contextlib
import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from coordeval.errors import ConfigError
from coordeval.exchange.export_context import ExportContext
from coordeval.exchange.exporting import FORMATS, export_run
from coordeval.exchange.scored_objects import scored_images
from coordeval.metrics.score import score_run
from coordeval.runs import open_run

DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"


def scored(name):
    return score_run(open_run(DUMPS / f"{name}.jsonl"))


def write(tmp_path, *lines):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return score_run(open_run(path))


def tokens(*bins):
    return "[" + ", ".join(f"<|coord_{k}|>" for k in bins) + "]"


def one(tmp_path, desc="cat", gt_desc="cat", **changes):
    text = f'{{"objects": [{{"desc": {json.dumps(desc)}, "bbox_2d": {tokens(0, 0, 500, 999)}}}]}}'
    gt = [{"desc": gt_desc, "bbox_2d": [0, 0, 50, 50]}]
    base = {"id": "a", "image": "x/a.jpg", "width": 1000, "height": 100, "text": text, "gt": gt}
    return write(tmp_path, base | changes)


def export(result, to, out, **context):
    return export_run(result, to, out, ExportContext(name="run", **context))


@pytest.mark.parametrize("name", ["identical-to-limit", "conforming", "digit-slots"])
def test_coco_files_give_the_same_ap_in_pycocotools(tmp_path, name):
    """The results load against the ground-truth document, and AP equals the run's."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    result = scored(name)
    export(result, "coco", tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "ground_truth.json"))
        found = truth.loadRes(str(tmp_path / "results.json"))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(result.metrics["coco/AP"], abs=1e-9)
    assert evaluation.stats[8] == pytest.approx(result.metrics["coco/AR100"], abs=1e-9)


def test_coco_files_of_boxes_and_polygons_give_the_mask_ap_in_pycocotools(tmp_path):
    """A box beside polygons has a mask too, so that COCO's mask AP is that of the run."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    points = tokens(100, 100, 900, 100, 900, 900)
    records = f'{{"desc": "cat", "bbox_2d": {tokens(0, 0, 500, 999)}}}, '
    text = f'{{"objects": [{records}{{"desc": "dog", "poly": {points}}}]}}'
    outline = [100, 10, 900, 10, 900, 90]
    gt = [{"desc": "cat", "bbox_2d": [0, 0, 450, 90]}, {"desc": "dog", "poly": outline}]
    result = one(tmp_path, text=text, gt=gt)
    export(result, "coco", tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "ground_truth.json"))
        found = truth.loadRes(str(tmp_path / "results.json"))
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = ("AP", "AP50", "AP75")
    assert evaluation.stats[:3] == pytest.approx([result.metrics[f"coco_segm/{k}"] for k in keys])
    assert 0 < evaluation.stats[0] < 1


def test_what_coco_cannot_hold_is_counted(tmp_path):
    """Unknown names and dropped records are named in the remarks."""
    result = one(tmp_path, desc="unicorn")
    done = export(result, "coco", tmp_path / "out")
    assert any("1 prediction " in remark for remark in done.remarks)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


def fiftyone_samples(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    assert "version" not in metadata  # else FiftyOne expects documents of its database
    return json.loads((folder / "samples.json").read_text())["samples"]


def test_fiftyone_boxes_are_relative(tmp_path):
    """[x, y, width, height] as shares of the image, for both fields; classes of FiftyOne."""
    export(one(tmp_path), "fiftyone", tmp_path / "out")
    (sample,) = fiftyone_samples(tmp_path / "out")
    (truth,) = sample["ground_truth"]["detections"]
    assert truth["bounding_box"] == pytest.approx([0.0, 0.0, 0.05, 0.5])
    (found,) = sample["predictions"]["detections"]
    assert found["bounding_box"] == pytest.approx([0.0, 0.0, 500 / 999 * 0.999, 0.99])
    assert (found["_cls"], found["label"], found["verdict"]) == ("Detection", "cat", "wrong")
    assert sample["metadata"] == {"_cls": "ImageMetadata", "width": 1000, "height": 100}
    assert sample["filepath"] == "x/a.jpg"


def test_fiftyone_counts_match_the_run(tmp_path):
    """Every scored object is in the export once; polygons are closed polylines."""
    result = scored("polygons")
    export(result, "fiftyone", tmp_path)
    samples = fiftyone_samples(tmp_path)
    lines = [s.get("ground_truth_polygons", {}).get("polylines", []) for s in samples]
    boxes = [s["ground_truth"]["detections"] for s in samples]
    assert sum(map(len, lines)) + sum(map(len, boxes)) == result.metrics["count/gt"]
    assert all(line["closed"] and len(line["points"][0]) >= 3 for row in lines for line in row)
    flat = [xy for row in lines for line in row for xy in line["points"][0]]
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in flat)


@pytest.mark.parametrize(
    "image", ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\x.jpg", "", None]
)
def test_exports_never_point_outside(tmp_path, image):
    """A path that leaves the image folder is replaced, with and without an image root."""
    result = one(tmp_path, image=image)
    for number, root in enumerate((None, tmp_path)):
        export(result, "fiftyone", tmp_path / f"o{number}", image_root=root)
        (sample,) = fiftyone_samples(tmp_path / f"o{number}")
        path = sample["filepath"]
        assert not path.startswith("/") or path.startswith(str(tmp_path))
        assert ".." not in Path(path).parts
        assert "passwd" not in path


def test_fiftyone_paths_are_absolute_where_the_root_is_known(tmp_path):
    """With an image root the dataset opens without further arguments."""
    export(one(tmp_path), "fiftyone", tmp_path / "out", image_root=tmp_path)
    (sample,) = fiftyone_samples(tmp_path / "out")
    assert sample["filepath"] == str((tmp_path / "x" / "a.jpg").resolve())


def test_label_studio_regions_are_percent(tmp_path):
    """Percent units, ground truth as annotation, predictions with a model version and scores."""
    export(one(tmp_path), "labelstudio", tmp_path / "out")
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    (region,) = task["annotations"][0]["result"]
    assert region["value"] == {
        "x": 0.0, "y": 0.0, "width": 5.0, "height": 50.0, "rotation": 0, "rectanglelabels": ["cat"],
    }  # fmt: skip
    assert (region["original_width"], region["original_height"]) == (1000, 100)
    assert (region["from_name"], region["to_name"], region["type"]) == (
        "label",
        "image",
        "rectanglelabels",
    )
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "run"
    assert prediction["result"][0]["score"] == 1.0
    assert task["data"]["image"].endswith("x/a.jpg")


def test_label_studio_config_names_every_label(tmp_path):
    """The interface is XML whatever a model wrote, and holds each label that the tasks use."""
    nasty = "<b>\"&' \x00\u202e</b>"
    export(one(tmp_path, desc=nasty), "labelstudio", tmp_path / "out", image_prefix="s3://b/")
    root = ET.fromstring((tmp_path / "out" / "label_config.xml").read_text())
    names = {element.get("value") for element in root.iter("Label")}
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert task["data"]["image"] == "s3://b/x/a.jpg"
    used = {
        name
        for region in task["predictions"][0]["result"]
        for name in region["value"]["rectanglelabels"]
    }
    assert len(used) == 1
    assert used | {"cat"} == names


def test_label_studio_ids_are_unique(tmp_path):
    """No two regions of the export share an id."""
    export(scored("polygons"), "labelstudio", tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    ids = [
        r["id"]
        for t in tasks
        for part in (*t["annotations"], *t["predictions"])
        for r in part["result"]
    ]
    assert len(ids) == len(set(ids)) > 0
    assert any(r["type"] == "polygonlabels" for t in tasks for r in t["annotations"][0]["result"])


def test_tables_hold_every_object(tmp_path):
    """CSV and parquet have one row per object, and read back with equal numbers."""
    result = scored("broken-records")
    export(result, "csv", tmp_path / "o.csv")
    export(result, "parquet", tmp_path / "o.parquet")
    with (tmp_path / "o.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    table = pd.read_parquet(tmp_path / "o.parquet")
    assert len(rows) == len(table) == len(result.objects)
    for row, expected in zip(rows, result.objects.to_dict("records"), strict=True):
        assert row["id"] == expected["id"]
        assert row["verdict"] == expected["verdict"]
        values = expected["values"]
        assert (json.loads(row["values"]) if row["values"] else None) == (values and list(values))


@pytest.mark.parametrize("to", FORMATS)
def test_empty_and_odd_runs_export(tmp_path, to):
    """No objects at all, and lone surrogates in a name, go through every format."""
    out = tmp_path / ("o.csv" if to == "csv" else "o.parquet" if to == "parquet" else "o")
    empty = one(tmp_path, text='{"objects": []}', gt=[])
    assert export(empty, to, out).paths
    line = {
        "id": "a",
        "width": 9,
        "height": 9,
        "gt": [],
        "text": f'{{"objects": [{{"desc": "\ud800", "bbox_2d": {tokens(1, 2, 3, 4)}}}]}}',
    }
    assert export(write(tmp_path, line), to, out).paths


def test_wrong_outputs_are_refused(tmp_path):
    """A file where a folder is needed, a folder where a file is, an unknown format."""
    result = one(tmp_path)
    (tmp_path / "f.txt").write_text("x")
    for to, out in (
        ("coco", tmp_path / "f.txt"),
        ("csv", tmp_path),
        ("coco", tmp_path / "a.json"),
        ("yolo", tmp_path),
    ):
        with pytest.raises(ConfigError):
            export(result, to, out)


def test_scored_images_hold_what_the_table_holds():
    """The shared view has every object of the run, once, in its order."""
    result = scored("identical-to-limit")
    seen = [
        (i.entry.id, o.role, o.index) for i in scored_images(result) for o in (*i.records, *i.gt)
    ]
    table = result.objects
    assert sorted(seen) == sorted(zip(table["id"], table["role"], table["index"], strict=True))


@pytest.mark.parametrize("frame", ["coordexp", "unit-1000"])
def test_boxes_of_dropped_records_follow_the_frame(tmp_path, frame):
    """A dropped record is drawn where it would have stood, in the run's frame."""
    text = f'{{"objects": [{{"desc": "cat", "bbox_3d": {tokens(0, 0, 500, 900)}}}]}}'
    line = {"id": "a", "width": 1000, "height": 100, "gt": [], "text": text}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(line) + "\n")
    from dataclasses import replace

    run = open_run(path)
    (image,) = scored_images(score_run(replace(run, meta={"frame": frame})))
    (record,) = image.records
    denominator, extents = (999, (999, 99)) if frame == "coordexp" else (1000, (1000, 100))
    expected = (0.0, 0.0, 500 / denominator * extents[0], 900 / denominator * extents[1])
    assert record.box_px == pytest.approx(expected)
    assert record.verdict == "dropped"
