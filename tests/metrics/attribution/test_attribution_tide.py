"""Agreement with tidecv 1.0.1 on real detections, and where ties and crowds part us from it."""

import json
from collections import defaultdict

import pytest

from coordeval.metrics.attribution.attribution import attribute

pytestmark = pytest.mark.data


def as_run(folder, *, crowd=True, limit=None, distinct=False):
    """LMM-Det on the COCO subset as rollout lines, in thousandths of the longer side.

    Its coordinates are such thousandths, so whole numbers lose nothing.
    """
    truth = json.loads((folder / "instances_val2017_subset.json").read_text())
    found = json.loads((folder / "lmm_det_stage4_detections_subset.json").read_text())
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    side = {image["id"]: max(image["width"], image["height"]) for image in truth["images"]}
    detections, objects = defaultdict(list), defaultdict(list)
    for entry in found:
        detections[entry["image_id"]].append(entry)
    for entry in truth["annotations"]:
        if not crowd and entry["iscrowd"]:
            continue
        box = _corners(entry["bbox"], 1000 / side[entry["image_id"]])
        objects[entry["image_id"]].append(
            {
                "desc": names[entry["category_id"]],
                "bbox_2d": box,
                "iscrowd": bool(entry["iscrowd"]),
                "category_id": entry["category_id"],
            }
        )
    lines = []
    for image in truth["images"]:
        kept = sorted(detections[image["id"]], key=lambda entry: -entry["score"])[:limit]
        records = [
            '{"desc": "%s", "bbox_2d": [%s]}'  # noqa: UP031 - braces
            % (
                names[entry["category_id"]],
                ", ".join(str(round(v)) for v in _corners(entry["bbox"], 1000 / side[image["id"]])),
            )
            for entry in kept
        ]
        lines.append(
            {
                "id": str(image["id"]),
                "image_id": image["id"],
                "width": 1001,
                "height": 1001,
                "gt": objects[image["id"]],
                "text": '{"objects": [' + ", ".join(records) + "]}",
                "scores": [entry["score"] for entry in kept],
            }
        )
    if distinct:
        _break_ties(lines)
    categories = [{"id": entry["id"], "name": entry["name"]} for entry in truth["categories"]]
    dialect = {"name": "coordjson-pixels", "coordinates": "pixel_int"}
    return lines, {"categories": categories, "dialect": dialect}


def _corners(xywh, scale):
    x, y, width, height = xywh
    return [x * scale, y * scale, (x + width) * scale, (y + height) * scale]


def _break_ties(lines):
    flat = [(-score, i, j) for i, row in enumerate(lines) for j, score in enumerate(row["scores"])]
    for rank, (_, i, j) in enumerate(sorted(flat)):
        lines[i]["scores"][j] = 1 - rank / len(flat)


def test_the_tide_table_is_that_of_tidecv(score, data_dir):
    """AP50, the gain of each main error and how often it occurs, on the published subset."""
    lines, meta = as_run(data_dir / "coco_val2017_subset")
    expected = json.loads((data_dir / "metrics" / "expected.json").read_text())
    expected = expected["coco_val2017_subset + LMM-Det"]["tidecv_1_0_1_box_pos0_5"]
    table = attribute(score(lines, meta)).tide
    assert 100 * table.ap50 == pytest.approx(expected["AP50"], abs=2e-3)
    for name, gain in expected["main"].items():
        assert 100 * table.gain[name] == pytest.approx(gain, abs=2e-3), name
    names = ("Class", "Box", "Other", "Duplicate", "Background", "Missed")
    ours = dict(zip(names, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))
    assert {name: table.count[ours[name]] for name in names} == expected["counts"]


def test_counts_of_the_six_types_are_those_of_tidecv_without_its_habits(score, data_dir):
    """No crowd, at most 100 detections an image: the costs' own verdicts are TIDE's as well."""
    lines, meta = as_run(data_dir / "coco_val2017_subset", crowd=False, limit=100, distinct=True)
    result = score(lines, meta)
    found = attribute(result)
    from coordeval.metrics.attribution.candidates import build_candidates
    from coordeval.metrics.attribution.labels import BKG, BOTH, CLS, DUPE, LOC
    from coordeval.metrics.attribution.measure import Measure

    measure = Measure(build_candidates(result))
    labels, _ = measure.ap_labels(measure.candidates.valid)
    label = labels[0].label
    verdicts = {"Cls": CLS, "Loc": LOC, "Both": BOTH, "Dupe": DUPE, "Bkg": BKG}
    ours = {name: int((label == code).sum()) for name, code in verdicts.items()}
    ours["Miss"] = int(labels[0].missed.sum())
    assert ours == found.tide.count
