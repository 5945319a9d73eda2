"""Validation finds every problem, names its place, and never stops at the first."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from coordeval.data.problems import PROBLEM_KINDS
from coordeval.data.validate import validate_dataset
from coordeval.errors import DataError

DATA = os.environ.get("COORDEVAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="COORDEVAL_DATA is not set")
BOX = {"desc": "cat", "bbox_2d": [1, 2, 30, 40]}


def _record(*objects, **more):
    return {"image": "a.jpg", "width": 100, "height": 50, "objects": list(objects)} | more


def _write(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(written) + "\n")
    return path


def _problems(report):
    return dict(report.log.counts)


def test_a_clean_dataset_has_no_problem(tmp_path):
    """Every geometry, an empty image, crowd, tokens: nothing is reported."""
    Image.new("RGB", (100, 50)).save(tmp_path / "a.jpg")
    Image.new("RGB", (100, 50)).save(tmp_path / "b.jpg")
    tokens = {"desc": "t", "bbox_2d": [f"<|coord_{k}|>" for k in (0, 0, 999, 999)]}
    path = _write(
        tmp_path,
        _record(BOX, BOX | {"iscrowd": 1}, tokens, {"desc": "p", "poly": [0, 0, 9, 0, 9, 9]}),
        _record(image="b.jpg"),
    )
    report = validate_dataset(path, images="open")
    assert _problems(report) == {}
    assert (report.num_images, report.num_objects, report.num_images_checked) == (2, 4, 2)


def test_every_kind_of_problem_is_counted_in_one_pass(tmp_path):
    """One file with all faults at once: each is counted under its kind, at its line."""
    lines = [
        _record(BOX, BOX, BOX, id="dup"),  # 1: two repeats
        _record(BOX, id="dup"),  # 2
        '{"torn": ',  # 3
        "[1]",  # 4
        {"image": "a.jpg", "height": 5, "objects": []},  # 5
        _record(id=[]),  # 6
        _record({"desc": " ", "bbox_2d": [1, 2, 3, 4]}, {"desc": "x"}, id="7"),  # 7
        json.dumps(_record({"desc": "x", "bbox_2d": [1, float("nan"), 3, 4]}, id="8")),  # 8
        _record({"desc": "x", "bbox_2d": [5, 5, 5, 9]}, id="9"),  # 9
        _record({"desc": "x", "poly": [0, 0, 5, 5, 9, 9]}, id="10"),  # 10
        _record({"desc": "x", "line": [3, 3, 3, 3]}, id="11"),  # 11
        _record({"desc": "x", "bbox_2d": [-1, 2, 3, 51]}, id="12"),  # 12
        _record(image="../a.jpg", id="13"),  # 13
    ]
    report = validate_dataset(_write(tmp_path, *lines), images="none", show=100)
    found = Counter((p.kind, int(p.place.rsplit(":", 1)[1])) for p in report.log.first)
    assert found == {
        ("duplicate_object", 1): 2,
        ("duplicate_id", 2): 1,
        ("malformed_line", 3): 1,
        ("malformed_line", 4): 1,
        ("missing_key", 5): 1,
        ("bad_value", 6): 1,
        ("blank_desc", 7): 1,
        ("bad_geometry", 7): 1,
        ("non_finite", 8): 1,
        ("degenerate_box", 9): 1,
        ("zero_area_polygon", 10): 1,
        ("zero_length_line", 11): 1,
        ("out_of_image", 12): 1,
        ("path_outside_root", 13): 1,
    }
    assert report.num_images == 13
    assert sum(found.values()) == sum(report.log.counts.values())
    assert report.count("error") + report.count("warning") == sum(found.values())


def test_infinity_elsewhere_in_a_line_is_counted_too(tmp_path):
    """A constant that is not JSON is a problem wherever it stands."""
    line = json.dumps(_record(metadata={"k": 1})).replace('"k": 1', '"k": Infinity')
    report = validate_dataset(_write(tmp_path, line), images="none")
    assert _problems(report) == {"non_finite": 1}


def test_objects_are_checked_though_the_header_is_broken(tmp_path):
    """A record without a width still tells its blank descriptions and its path."""
    record = _record({"desc": "", "bbox_2d": [1, 2, 3, 4]}, image="/etc/passwd")
    del record["width"]
    report = validate_dataset(_write(tmp_path, record), images="none")
    assert _problems(report) == {"missing_key": 1, "path_outside_root": 1, "blank_desc": 1}


def test_only_the_first_problems_are_kept_but_all_are_counted(tmp_path):
    """`show` limits what is kept of each kind, never the counts."""
    lines = [_record({"desc": "x", "bbox_2d": [5, 5, 5, 5]}, id=str(n)) for n in range(50)]
    report = validate_dataset(_write(tmp_path, *lines, "torn"), images="none", show=3)
    kinds = Counter(problem.kind for problem in report.log.first)
    assert kinds == {"degenerate_box": 3, "malformed_line": 1}
    assert _problems(report) == {"degenerate_box": 50, "malformed_line": 1}
    assert validate_dataset(_write(tmp_path, "torn"), show=0).log.first == []


def test_image_files_are_looked_at_as_asked(tmp_path):
    """`exists` finds missing files, `open` also broken ones and sizes before EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50)).save(tmp_path / "good.jpg")
    Image.new("RGB", (100, 50)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (7, 7)).save(tmp_path / "small.jpg")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:300])
    names = ["good", "turned", "small", "broken", "absent"]
    path = _write(tmp_path, *(_record(image=f"{name}.jpg") for name in names))
    assert _problems(validate_dataset(path, images="none")) == {}
    assert _problems(validate_dataset(path, images="exists")) == {"missing_image": 1}
    seen = []
    for workers in (1, 4):
        report = validate_dataset(
            path, images="open", workers=workers, on_progress=lambda *at: seen.append(at)
        )
        assert [(p.kind, p.place.rsplit(":", 1)[1]) for p in report.log.first] == [
            ("size_mismatch", "2"),
            ("size_mismatch", "3"),
            ("unreadable_image", "4"),
            ("missing_image", "5"),
        ]
        assert "EXIF" in report.log.first[0].message
        assert "EXIF" not in report.log.first[1].message
    assert seen[-5:] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_hint_names_the_folder_of_the_images(tmp_path):
    """Where images lie one folder down, the report says which option mends it."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "images" / "a.jpg")
    report = validate_dataset(_write(tmp_path, _record()))
    assert report.hint is not None
    assert f"--image-root {tmp_path / 'images'}" in report.hint


def test_all_problems_of_a_coco_file_are_counted(tmp_path):
    """A COCO document full of faults is gone through to its end."""
    good = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    document = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 50, "height": 50},
            {"id": 1, "file_name": "b.jpg", "width": 50, "height": 50},
            {"id": 2, "file_name": "a.jpg", "width": 50, "height": 50},
            {"id": 3, "file_name": "../c.jpg", "width": 50, "height": 50},
            {"id": 4, "file_name": "d.jpg"},
            {"id": "5"},
            "six",
        ],
        "categories": [
            {"id": 1, "name": "cat"},
            {"id": 2, "name": "cat"},
            {"id": 1, "name": "dog"},
            {"id": 3, "name": ""},
        ],
        "annotations": [
            good | {"id": 1},
            good | {"id": 2},
            good | {"id": 2, "bbox": [1, 1, 0, 5]},
            good | {"id": 4, "image_id": 77},
            good | {"id": 5, "category_id": 77},
            good | {"id": 6, "bbox": [1, 2, 3]},
            good | {"id": 7, "bbox": [1, 2, float("nan"), 4]},
            good | {"id": 8, "bbox": [1, 2, 60, 4]},
            good | {"id": 9, "segmentation": [[1, 1, 2, 2, 3, 3]]},
            good | {"id": 10, "iscrowd": 5},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    report = validate_dataset(path, images="none", show=100)
    assert _problems(report) == {
        "duplicate_id": 3,  # image 1, the file name a.jpg, category 1
        "path_outside_root": 1,
        "missing_key": 1,  # the size of image 4
        "bad_value": 3,  # image id "5", image entry "six", iscrowd 5
        "duplicate_category": 1,
        "blank_desc": 1,
        "duplicate_object": 1,
        "duplicate_annotation_id": 1,
        "degenerate_box": 1,
        "unknown_image": 1,
        "unknown_category": 1,
        "bad_geometry": 1,
        "non_finite": 1,
        "out_of_image": 1,
        "zero_area_polygon": 1,
    }
    assert report.num_objects == 10


def test_nan_in_a_field_that_nobody_reads_is_a_problem_too(tmp_path):
    """The reader refuses such a COCO file whole, so validation must not call it clean."""
    document = {"info": {"x": float("nan")}, "images": [], "annotations": [], "categories": []}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    assert _problems(validate_dataset(path)) == {"non_finite": 1, "empty_dataset": 1}


def test_a_json_true_is_no_id(tmp_path):
    """Python takes true for 1; the reader and validation do not."""
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": True, "category_id": 1, "bbox": [1, 1, 5, 5]},
            {"id": 2, "image_id": 1, "category_id": True, "bbox": [1, 1, 5, 5]},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    problems = _problems(validate_dataset(path, images="none"))
    assert problems == {"unknown_image": 1, "unknown_category": 1}


def test_rounding_of_the_source_is_not_out_of_image(tmp_path):
    """Edges: x + w equal to the width, and a hundredth beyond it, are inside."""
    objects = [
        {"desc": "x", "bbox_2d": [0, 0, 100.01, 50]},
        {"desc": "y", "bbox_2d": [0, 0, 100, 50]},
    ]
    path = _write(tmp_path, _record(*objects))
    assert _problems(validate_dataset(path, images="none")) == {}
    path = _write(tmp_path, _record({"desc": "x", "bbox_2d": [0, 0, 100.1, 50]}))
    assert _problems(validate_dataset(path, images="none")) == {"out_of_image": 1}


def test_empty_and_damaged_files(tmp_path):
    """An empty file is a warning, a damaged archive a malformed line, a missing file an error."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"")
    assert _problems(validate_dataset(path)) == {"empty_dataset": 1}
    noise = os.urandom(3000).hex()
    lines = "".join(json.dumps(_record(id=f"{n}{noise[n * 50 :]}")) + "\n" for n in range(20))
    path.write_bytes(gzip.compress(lines.encode())[:-300])
    report = validate_dataset(path, images="none")
    assert report.log.counts["malformed_line"] == 1
    with pytest.raises(DataError, match="no such dataset file"):
        validate_dataset(tmp_path / "none.jsonl")


def test_every_kind_has_a_weight_and_a_meaning():
    """The table of kinds is complete and says something for each."""
    for kind, (severity, meaning) in PROBLEM_KINDS.items():
        assert severity in {"error", "warning"}, kind
        assert meaning


def _boxes(tmp_path, boxes, *, width, height, **record):
    """A dataset with one object per image."""
    records = [
        _record({"desc": "x", "bbox_2d": box}, id=str(n), width=width, height=height, **record)
        for n, box in enumerate(boxes)
    ]
    return _problems(validate_dataset(_write(tmp_path, *records), images="none"))


def _coco_boxes(tmp_path, boxes, *, width, height):
    """The same as COCO."""
    images = [
        {"id": n, "file_name": f"{n}.jpg", "width": width, "height": height}
        for n in range(len(boxes))
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for n, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    path = tmp_path / "instances.json"
    categories = [{"id": 1, "name": "x"}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return _problems(validate_dataset(path, images="none"))


SHARES = [[0.1, 0.25, 0.5, 0.75], [0, 0, 1, 1]]
GRID = [[10 * n, 20, 999, 1000 - n] for n in range(12)]


@pytest.mark.parametrize("read", [_boxes, _coco_boxes])
def test_a_dataset_of_shares_of_the_image_is_told(read, tmp_path):
    """All boxes within 0..1 are no pixels, in either form; one box beyond, and nothing is said."""
    assert read(tmp_path, SHARES, width=640, height=480) == {"normalised_geometry": 1}
    assert read(tmp_path, [*SHARES, [0.5, 0.5, 9, 9]], width=640, height=480) == {}


def test_small_boxes_are_not_taken_for_shares(tmp_path):
    """The first pixel of an image, a tiny image and a record of bins are fine."""
    assert _boxes(tmp_path, [[0, 0, 1, 1]] * 9, width=640, height=480) == {}
    assert _boxes(tmp_path, SHARES, width=2, height=2) == {}
    assert _boxes(tmp_path, [[0, 0, 1, 1]], width=640, height=480, coord_space="bins") == {}


@pytest.mark.parametrize("read", [_boxes, _coco_boxes])
def test_bins_in_a_dataset_of_large_images_are_told(read, tmp_path):
    """Whole numbers up to 1000 and never beyond, in a dozen images of 4000 x 3000."""
    assert read(tmp_path, GRID, width=4000, height=3000) == {"grid_geometry": 1}


@pytest.mark.parametrize(
    ("boxes", "width", "height"),
    [
        (GRID, 1000, 1000),  # that large is the image
        (GRID, 1280, 1024),  # a dozen images may well look so
        (GRID[:6], 4000, 3000),  # and so may a few large ones
        ([*GRID, [5, 5, 1001, 9]], 4000, 3000),
        ([*GRID, [5, 5, 9.5, 9]], 4000, 3000),
        ([[1, 2, 800, 700]] * 40, 4000, 3000),  # things in a corner, never near 1000
    ],
)
def test_honest_pixels_are_not_taken_for_bins(boxes, width, height, tmp_path):
    """Only what can hardly be chance is told."""
    problems = _boxes(tmp_path, boxes, width=width, height=height)
    assert "grid_geometry" not in problems


@needs_data
@pytest.mark.data
def test_bccd_has_two_degenerate_boxes_and_nothing_else():
    """All 364 photos open, have their size, and only the two known boxes are reported."""
    root = Path(DATA) / "bccd"
    report = validate_dataset(
        root / "instances_all.json", image_root=root / "images", images="open", workers=2
    )
    assert _problems(report) == {"degenerate_box": 2}
    assert (report.num_images, report.num_objects, report.num_images_checked) == (364, 4888, 364)


@needs_data
@pytest.mark.data
def test_the_coco_subset_is_clean():
    """COCO's own ground truth gives no false alarm, polygons included."""
    root = Path(DATA) / "coco_val2017_subset"
    report = validate_dataset(
        root / "instances_val2017_subset.json", image_root=root / "images", images="open"
    )
    assert _problems(report) == {}
