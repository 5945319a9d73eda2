"""Conversions: what is written reads back as the same pixels, and nothing vanishes uncounted."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import area

from coordeval.coords import FRAMES
from coordeval.data.convert import convert_dataset
from coordeval.data.dataset import open_dataset
from coordeval.errors import DataError

DATA = os.environ.get("COORDEVAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="COORDEVAL_DATA is not set")


def _write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _record(*objects, **more):
    return {"image": "a.jpg", "width": 641, "height": 481, "objects": list(objects)} | more


bins = st.integers(0, 999)
objects = st.one_of(
    st.fixed_dictionaries({"desc": st.just("box"), "bbox_2d": st.tuples(bins, bins, bins, bins)}),
    st.fixed_dictionaries(
        {
            "desc": st.just("poly"),
            "poly": st.lists(bins, min_size=3, max_size=6).map(lambda v: v * 2),
        }
    ),
    st.fixed_dictionaries({"desc": st.just("line"), "line": st.tuples(bins, bins, bins, bins)}),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    found=st.lists(objects, max_size=5),
    width=st.integers(2, 9000),
    height=st.integers(2, 9000),
    frame=st.sampled_from(sorted(FRAMES)),
    to=st.sampled_from(["bins", "tokens"]),
)
def test_bins_to_pixels_to_bins_is_the_identity(tmp_path, found, width, height, frame, to):
    """Nearest rounding gives every bin back, in every frame and size, as numbers and as tokens."""
    head = {"image": "a", "width": width, "height": height, "coord_space": "bins", "frame": frame}
    source = _write(tmp_path / "a.jsonl", head | {"objects": found})
    pixels, back, again = (tmp_path / name for name in ("b.jsonl", "c.jsonl", "d.jsonl"))
    convert_dataset(open_dataset(source), pixels, to="pixels")
    assert not {"coord_space", "frame"} & set(_lines(pixels)[0])
    counts = convert_dataset(open_dataset(pixels), back, to=to, frame=FRAMES[frame])
    assert (counts.clamped, counts.widened, counts.objects) == (0, 0, len(found))
    convert_dataset(open_dataset(back), again, to="bins", frame=FRAMES[frame])
    expected = json.loads(json.dumps(found))
    assert _lines(again)[0]["objects"] == expected
    same = [sample.objects for sample in open_dataset(source)]
    assert [sample.objects for sample in open_dataset(back)] == same


def test_records_in_bins_say_so_and_name_their_frame(tmp_path):
    """Whatever frame a reader assumes, the pixels are those that were written."""
    source = _write(tmp_path / "a.jsonl", _record({"desc": "x", "bbox_2d": [64, 48, 320, 240]}))
    out = tmp_path / "b.jsonl"
    convert_dataset(open_dataset(source), out, to="bins", frame=FRAMES["unit-1000"])
    (record,) = _lines(out)
    assert (record["coord_space"], record["frame"]) == ("bins", "unit-1000")
    assert record["objects"][0]["bbox_2d"] == [100, 100, 499, 499]
    for assumed in FRAMES:
        (sample,) = open_dataset(out, frame=assumed)
        assert sample.objects[0].values_px == pytest.approx((64.1, 48.1, 319.859, 240.019))


def test_tokens_are_strings(tmp_path):
    """The token form is what the contract calls bins as strings."""
    source = _write(tmp_path / "a.jsonl", _record({"desc": "x", "bbox_2d": [0, 0, 640, 480]}))
    convert_dataset(open_dataset(source), tmp_path / "b.jsonl", to="tokens")
    written = _lines(tmp_path / "b.jsonl")[0]["objects"][0]["bbox_2d"]
    assert written == ["<|coord_0|>", "<|coord_0|>", "<|coord_999|>", "<|coord_999|>"]


def test_outward_boxes_contain_the_original(tmp_path):
    """`outward` never cuts into the object; `nearest` may."""
    box = [100.3, 50.3, 200.4, 90.4]
    source = _write(tmp_path / "a.jsonl", _record({"desc": "x", "bbox_2d": box}))
    convert_dataset(open_dataset(source), tmp_path / "b.jsonl", to="bins", rounding="outward")
    (sample,) = open_dataset(tmp_path / "b.jsonl")
    x1, y1, x2, y2 = sample.objects[0].values_px
    assert x1 <= box[0]
    assert y1 <= box[1]
    assert x2 >= box[2]
    assert y2 >= box[3]


def test_clamped_and_widened_are_counted(tmp_path):
    """Edges: x + w equal to the width is clamped, a hair of a box is widened; both are told."""
    source = _write(
        tmp_path / "a.jsonl",
        _record(
            {"desc": "edge", "bbox_2d": [10, 10, 642, 483]},
            {"desc": "hair", "bbox_2d": [100.0, 100.0, 100.1, 200.0]},
            {"desc": "none", "bbox_2d": [5, 5, 5, 5]},
        ),
    )
    counts = convert_dataset(open_dataset(source), tmp_path / "b.jsonl", to="bins")
    assert (counts.clamped, counts.clamped_objects, counts.widened) == (2, 1, 1)
    edge, hair, none = (obj["bbox_2d"] for obj in _lines(tmp_path / "b.jsonl")[0]["objects"])
    assert edge[2:] == [999, 999]
    assert hair[2] == hair[0] + 1
    assert none[0] == none[2]


def test_keys_that_the_contract_does_not_know_are_copied(tmp_path):
    """Ids, metadata, crowd, area and foreign keys of records and objects survive."""
    obj = {"desc": "x", "bbox_2d": [1, 2, 3, 4], "iscrowd": 1, "area": 4.5, "category_id": 9}
    record = _record(obj | {"note": "n"}, id="i", image_id=4, metadata={"k": [1]}, summary="s")
    source = _write(tmp_path / "a.jsonl", record)
    convert_dataset(open_dataset(source), tmp_path / "b.jsonl", to="pixels")
    assert _lines(tmp_path / "b.jsonl") == [record]


def test_the_input_is_never_overwritten(tmp_path):
    """Neither by name, nor through a link, nor through another spelling."""
    source = _write(tmp_path / "a.jsonl", _record())
    (tmp_path / "link.jsonl").symlink_to(source)
    (tmp_path / "hard.jsonl").hardlink_to(source)
    before = source.read_bytes()
    for name in ("a.jsonl", "link.jsonl", "hard.jsonl", "./x/../a.jsonl"):
        with pytest.raises(DataError, match="input itself"):
            convert_dataset(open_dataset(source), tmp_path / name, to="bins")
    with pytest.raises(DataError, match="folder"):
        convert_dataset(open_dataset(source), tmp_path, to="bins")
    assert source.read_bytes() == before


def test_a_fault_leaves_the_old_output_and_no_scraps(tmp_path):
    """The output is replaced as a whole or not at all."""
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(_record()) + "\nbroken\n")
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        convert_dataset(open_dataset(source), out, to="bins")
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]


def test_packed_output_reads_back_and_repeats_byte_for_byte(tmp_path):
    """`.gz` names are compressed, without the time of day inside."""
    source = _write(tmp_path / "a.jsonl", _record({"desc": "x", "bbox_2d": [1, 2, 3, 4]}))
    for name in ("b.jsonl.gz", "c.jsonl.gz"):
        convert_dataset(open_dataset(source), tmp_path / name, to="pixels")
    assert (tmp_path / "b.jsonl.gz").read_bytes() == (tmp_path / "c.jsonl.gz").read_bytes()
    same = [sample.objects for sample in open_dataset(source)]
    assert [sample.objects for sample in open_dataset(tmp_path / "b.jsonl.gz")] == same


def test_lone_surrogates_survive_conversion(tmp_path):
    """Text that is no valid Unicode is written as escapes, not lost."""
    source = _write(tmp_path / "a.jsonl", _record({"desc": "\ud83d", "bbox_2d": [1, 2, 3, 4]}))
    convert_dataset(open_dataset(source), tmp_path / "b.jsonl", to="tokens")
    assert _lines(tmp_path / "b.jsonl")[0]["objects"][0]["desc"] == "\ud83d"
    convert_dataset(open_dataset(source), tmp_path / "c.json", to="coco")
    (sample,) = open_dataset(tmp_path / "c.json")
    assert sample.objects[0].desc == "\ud83d"


def test_jsonl_to_coco_and_back(tmp_path):
    """Boxes, polygons, crowd and areas survive COCO; lines are counted as left out."""
    found = [
        {"desc": "cat", "bbox_2d": [1, 2, 30, 40], "area": 7.0},
        {"desc": "dog", "poly": [0, 0, 10, 0, 10, 10, 0, 10]},
        {"desc": "cat", "bbox_2d": [5, 5, 9, 9], "iscrowd": 1},
        {"desc": "road", "line": [0, 0, 5, 5]},
    ]
    source = _write(tmp_path / "a.jsonl", _record(*found), _record(image="b.jpg"))
    out = tmp_path / "c.json"
    counts = convert_dataset(open_dataset(source), out, to="coco")
    assert (counts.images, counts.objects, counts.lines_left_out) == (2, 3, 1)
    document = json.loads(out.read_text())
    assert [a["area"] for a in document["annotations"]] == [7.0, 100.0, 16.0]
    cat, dog, crowd = next(iter(open_dataset(out, geometry="poly"))).objects
    assert (cat.desc, cat.values_px, cat.area) == ("cat", (1, 2, 30, 40), 7.0)
    assert (dog.kind, dog.values_px) == ("poly", (0, 0, 10, 0, 10, 10, 0, 10))
    assert (crowd.desc, crowd.iscrowd) == ("cat", True)


def test_boxes_beside_polygons_are_masks_to_coco_tools_and_boxes_to_us(tmp_path):
    """Pycocotools compares the masks of the whole file; read again, a box is a box."""
    found = [
        {"desc": "cat", "bbox_2d": [1, 2, 31, 42]},
        {"desc": "dog", "poly": [0, 0, 10, 0, 10, 10]},
        {"desc": "cat", "bbox_2d": [50, 5, 59, 9], "iscrowd": 1},
        {"desc": "cat", "bbox_2d": [5, 5, 5, 9]},
    ]
    source = _write(tmp_path / "a.jsonl", _record(*found), _record(image="b.jpg"))
    out = tmp_path / "c.json"
    convert_dataset(open_dataset(source), out, to="coco")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(out))
        annotations = truth.dataset["annotations"]
        results = [
            {key: annotation[key] for key in ("image_id", "category_id")}
            | {"segmentation": truth.annToRLE(annotation), "score": 1.0}
            for annotation in annotations[:2]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[1] > 0.5
    areas = [annotation["area"] for annotation in annotations]
    assert areas == [1200.0, 50.0, 36.0, 0.0]
    assert [int(area(truth.annToRLE(a))) for a in annotations] == [1200, 45, 36, 0]
    kinds = [obj.kind for obj in next(iter(open_dataset(out, geometry="poly"))).objects]
    assert kinds == ["bbox_2d", "poly", "bbox_2d", "bbox_2d"]


def test_boxes_alone_have_no_masks_in_coco(tmp_path):
    """Nothing is made up where no mask can be meant."""
    source = _write(tmp_path / "a.jsonl", _record({"desc": "cat", "bbox_2d": [1, 2, 31, 42]}))
    convert_dataset(open_dataset(source), tmp_path / "c.json", to="coco")
    (annotation,) = json.loads((tmp_path / "c.json").read_text())["annotations"]
    assert set(annotation) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("geometry", ["bbox", "poly"])
def test_the_coco_subset_survives_jsonl(tmp_path, geometry):
    """COCO to JSONL keeps every object, crowd flag, area, category and polygon to the last digit."""
    path = Path(DATA) / "coco_val2017_subset" / "instances_val2017_subset.json"
    dataset = open_dataset(path, need_images=False, geometry=geometry)
    counts = convert_dataset(dataset, tmp_path / "out.jsonl", to="pixels")
    assert (counts.images, counts.objects) == (206, 1786)
    back = open_dataset(tmp_path / "out.jsonl", need_images=False)
    assert list(back) == list(dataset)
    if geometry == "poly":
        assert counts.fallbacks == {"several_parts": 125, "run_lengths": 21}


@needs_data
@pytest.mark.data
def test_real_boxes_are_at_most_half_a_bin_off(tmp_path):
    """Bins of BCCD read back within half a bin of the pixels, but for what was clamped."""
    path = Path(DATA) / "bccd" / "instances_all.json"
    dataset = open_dataset(path, need_images=False)
    convert_dataset(dataset, tmp_path / "out.jsonl", to="bins")
    for before, after in zip(dataset, open_dataset(tmp_path / "out.jsonl"), strict=True):
        half = (639 / 999 / 2, 479 / 999 / 2)
        for one, other in zip(before.objects, after.objects, strict=True):
            for slot, (a, b) in enumerate(zip(one.values_px, other.values_px, strict=True)):
                limit = (639, 479)[slot % 2]
                assert abs(min(a, limit) - b) <= half[slot % 2] + 1e-9
