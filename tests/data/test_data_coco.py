"""COCO files as datasets: what is kept, what is refused, and the real files."""

import copy
import gzip
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from coordeval.data.coco import choose_geometry, unknown_id
from coordeval.data.dataset import open_dataset
from coordeval.errors import DataError
from coordeval.records import Category

SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
DOCUMENT = {
    "images": [
        {"id": 5, "file_name": "b.jpg", "width": 100, "height": 50, "split": "val"},
        {"id": 3, "file_name": "a.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 7, "bbox": [10, 20, 30, 5.5], "area": 99.5},
        {
            "id": 2,
            "image_id": 5,
            "category_id": 2,
            "bbox": [0, 0, 100, 50],
            "iscrowd": 1,
            "segmentation": {"counts": [1, 2], "size": [50, 100]},
        },
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 4, "name": "owl"}],
}
DATA = os.environ.get("COORDEVAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="COORDEVAL_DATA is not set")


def _write(tmp_path, document, name="instances.json", **dump):
    path = tmp_path / name
    path.write_text(json.dumps(document, **dump))
    return path


def test_a_coco_file_becomes_samples(tmp_path):
    """Order of images, crowd, area, category ids, names and spare keys of images are kept."""
    dataset = open_dataset(_write(tmp_path, DOCUMENT))
    assert dataset.format == "coco"
    assert len(dataset) == 2
    assert dataset.categories == (
        Category(id=7, name="cat"),
        Category(id=2, name="dog"),
        Category(id=4, name="owl"),
    )
    first, second = dataset.iter_samples()
    assert (first.id, first.image, first.image_id) == ("b.jpg", "b.jpg", 5)
    assert (first.width, first.height, first.metadata) == (100, 50, {"split": "val"})
    assert first.image_path == tmp_path.resolve() / "b.jpg"
    assert first.objects == (
        ("cat", "bbox_2d", (10.0, 20.0, 40.0, 25.5), False, 99.5, 7),
        ("dog", "bbox_2d", (0.0, 0.0, 100.0, 50.0), True, None, 2),
    )
    assert (second.image_id, second.objects) == (3, ())


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.dat", "x"])
def test_the_form_is_told_by_content(tmp_path, indent, name):
    """The same document is COCO under any name, on one line or many, plain or packed."""
    path = _write(tmp_path, DOCUMENT, name=name, indent=indent)
    assert open_dataset(path).format == "coco"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    assert open_dataset(path).format == "coco"


def test_polygons_of_one_part_are_taken_and_the_rest_counted(tmp_path):
    """Several parts, run lengths, crowd and broken polygons fall back to the box, by reason."""
    document = copy.deepcopy(DOCUMENT)
    base = {"image_id": 5, "category_id": 7, "bbox": [10, 10, 10, 10], "iscrowd": 0}
    document["annotations"] = [
        base | {"id": 1, "segmentation": [SQUARE]},
        base | {"id": 2, "segmentation": [SQUARE, SQUARE]},
        base | {"id": 3, "segmentation": {"counts": "x", "size": [1, 1]}},
        base | {"id": 4, "segmentation": [SQUARE], "iscrowd": 1},
        base | {"id": 5},
        base | {"id": 6, "segmentation": []},
        base | {"id": 7, "segmentation": [[1, 2, 3, 4]]},
    ]
    path = _write(tmp_path, document)
    boxes = open_dataset(path)
    assert boxes.coco.geometry_fallbacks() == {}
    assert {obj.kind for sample in boxes for obj in sample.objects} == {"bbox_2d"}
    polygons = open_dataset(path, geometry="poly")
    objects = [obj for sample in polygons for obj in sample.objects]
    assert [obj.kind for obj in objects] == ["poly"] + ["bbox_2d"] * 6
    assert objects[0].values_px == tuple(float(value) for value in SQUARE)
    fallbacks = polygons.coco.geometry_fallbacks()
    assert fallbacks == {
        "several_parts": 1,
        "run_lengths": 2,
        "no_polygon": 2,
        "broken_polygon": 1,
    }
    assert sum(fallbacks.values()) + 1 == len(objects)


def test_degenerate_boxes_are_kept():
    """A box without width is ground truth all the same; validation reports it."""
    assert choose_geometry({"bbox": [5, 5, 0, 3]}, "bbox").values_px == (5, 5, 5, 8)


def _broken(change):
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


FAULTS = {
    "no annotations": (lambda d: d.pop("annotations"), "'annotations' is missing"),
    "no categories": (lambda d: d.pop("categories"), "'categories' is missing"),
    "image text": (lambda d: d["images"].append("x"), r"images\[2\]"),
    "image id text": (lambda d: d["images"][0].update(id="5"), r"images\[0\]: 'id'"),
    "image twice": (lambda d: d["images"].append(d["images"][0]), "image 5 stands there twice"),
    "same file": (
        lambda d: d["images"][1].update(file_name="b.jpg"),
        "images 5 and 3 have the same",
    ),
    "category twice": (lambda d: d["categories"].append({"id": 7, "name": "x"}), "category 7"),
    "category blank": (lambda d: d["categories"][0].update(name=" "), "category 7: 'name'"),
    "unknown image": (
        lambda d: d["annotations"][0].update(image_id=99),
        "annotation 1: image_id '99'",
    ),
    "unknown category": (
        lambda d: d["annotations"][1].update(category_id=99),
        "annotation 2: category_id '99'",
    ),
    "no bbox": (
        lambda d: d["annotations"][0].pop("bbox"),
        "annotation 1 .image 5.: 'bbox' is missing",
    ),
    "short bbox": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "annotation 1 .*needs 4"),
    "text bbox": (
        lambda d: d["annotations"][0].update(bbox=[1, 2, 3, "4"]),
        "annotation 1 .*numbers",
    ),
    "huge bbox": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "not finite"),
    "crowd": (lambda d: d["annotations"][0].update(iscrowd=3), "'iscrowd'"),
    "area": (lambda d: d["annotations"][0].update(area="big"), "'area'"),
    "size": (lambda d: d["images"][0].update(width=0), "image 5: width '0'"),
    "path": (lambda d: d["images"][0].update(file_name="../b.jpg"), "image 5: .*outside"),
    "no name": (lambda d: d["images"][0].pop("file_name"), "image 5: key 'file_name'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_the_image_or_annotation(tmp_path, fault):
    """Every fault is one line with the file and the COCO id."""
    change, message = FAULTS[fault]
    path = _write(tmp_path, _broken(change))
    with pytest.raises(DataError, match=message) as caught:
        list(open_dataset(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_nan_in_a_coco_file_is_refused(tmp_path):
    """NaN is not JSON, and no coordinate."""
    path = _write(
        tmp_path, _broken(lambda d: d["annotations"][0].update(bbox=[1, 2, float("nan"), 4]))
    )
    with pytest.raises(DataError):
        list(open_dataset(path))


def test_missing_sizes_come_from_the_file_or_the_canvas(tmp_path):
    """Without width and height: the canvas, else the upright image, else a clear error."""
    document = _broken(lambda d: [d["images"][0].pop(key) for key in ("width", "height")])
    path = _write(tmp_path, document)
    with pytest.raises(DataError, match=r"image 5: width and height are missing.*--canvas"):
        list(open_dataset(path))
    first, second = open_dataset(path, canvas=(640, 480))
    assert (first.width, first.height) == (640, 480)
    assert (second.width, second.height) == (40, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (31, 17)).save(tmp_path / "b.jpg", exif=exif)
    first, _ = open_dataset(path)
    assert (first.width, first.height) == (17, 31)


def test_files_without_names_serve_where_no_image_is_needed(tmp_path):
    """Scoring needs no file names: the image id stands for them."""
    path = _write(tmp_path, _broken(lambda d: d["images"][0].pop("file_name")))
    first, _ = open_dataset(path, need_images=False)
    assert (first.id, first.image_path, first.image_id) == ("5", None, 5)


@needs_data
@pytest.mark.data
def test_bccd_reads_whole():
    """The blood smears: 364 images, 4,888 boxes, three classes, two boxes without area."""
    root = Path(DATA) / "bccd"
    dataset = open_dataset(root / "instances_all.json", image_root=root / "images")
    samples = list(dataset)
    objects = [obj for sample in samples for obj in sample.objects]
    assert (len(dataset), len(samples), len(objects)) == (364, 364, 4888)
    assert [category.name for category in dataset.categories] == ["WBC", "RBC", "Platelets"]
    empty = [
        o for o in objects if o.values_px[0] >= o.values_px[2] or o.values_px[1] >= o.values_px[3]
    ]
    assert len(empty) == 2
    assert all(sample.image_path.is_file() for sample in samples)


@needs_data
@pytest.mark.data
def test_the_coco_subset_equals_the_document():
    """206 photos, 1,786 annotations, 21 crowd, 80 classes; boxes and areas number for number."""
    path = Path(DATA) / "coco_val2017_subset" / "instances_val2017_subset.json"
    document = json.loads(path.read_text())
    dataset = open_dataset(path, image_root=path.parent / "images")
    objects = {sample.image_id: list(sample.objects) for sample in dataset}
    assert (len(dataset), len(dataset.categories)) == (206, 80)
    assert sum(len(found) for found in objects.values()) == 1786
    assert sum(obj.iscrowd for found in objects.values() for obj in found) == 21
    for annotation in document["annotations"]:
        obj = objects[annotation["image_id"]].pop(0)
        x, y, w, h = annotation["bbox"]
        assert obj.values_px == (x, y, x + w, y + h)
        assert (obj.area, obj.category_id) == (annotation["area"], annotation["category_id"])


@needs_data
@pytest.mark.data
def test_the_full_boxes_need_a_canvas():
    """4,999 images and 36,781 boxes read with one canvas; without it the first bare image is named."""
    path = Path(DATA) / "coco_val2017_full_boxes" / "instances_val2017_boxes_rebuilt.json.gz"
    with pytest.raises(DataError, match=r"image 285: width and height are missing"):
        list(open_dataset(path, need_images=False))
    dataset = open_dataset(path, need_images=False, canvas=(640, 640))
    samples = list(dataset)
    assert len(samples) == len(dataset) == 4999
    assert sum(len(sample.objects) for sample in samples) == 36781
    assert sum(obj.iscrowd for sample in samples for obj in sample.objects) == 446


@pytest.mark.parametrize(("value", "told"), [("1", "a string"), (1.0, "a number"), (None, "null")])
def test_an_id_of_another_type_is_told_apart_from_the_number(value, told):
    """An image_id "1" beside the image 1 is not just "not in images": its type is named."""
    assert f"must be an integer, not {told}" in unknown_id("image_id", value, "images")
    assert "integer" not in unknown_id("image_id", 1, "images")
