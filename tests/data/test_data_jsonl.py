"""The JSONL contract: what is read, and every fault with its file and line."""

import gzip
import json
import math
import os

import pytest

from coordeval.coords import FRAMES, frame_named
from coordeval.data.dataset import image_root_hint, open_dataset, parse_canvas
from coordeval.data.objects import read_object
from coordeval.errors import ConfigError, DataError

OBJECT = {"desc": "cat", "bbox_2d": [1, 2, 30, 40]}
RECORD = {"image": "a.jpg", "width": 100, "height": 50, "objects": [OBJECT]}


def _write(tmp_path, *records, name="data.jsonl", raw=None):
    path = tmp_path / name
    lines = [json.dumps(record) for record in records] if raw is None else raw
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + b"\n")
    return path


def _read(path, **options):
    return list(open_dataset(path, **options).iter_samples())


def test_a_record_becomes_a_sample(tmp_path):
    """All keys of the contract arrive, the path inside the dataset's own folder."""
    record = RECORD | {
        "id": "first",
        "image_id": 7,
        "metadata": {"split": "val"},
        "objects": [
            {"desc": "cat", "bbox_2d": [1, 2.5, 30, 40], "iscrowd": 1, "area": 9, "category_id": 3},
            {"desc": "dog", "poly": [0, 0, 10, 0, 10, 10]},
            {"desc": "road", "line": [0, 0, 99, 49]},
        ],
    }
    (sample,) = _read(_write(tmp_path, record))
    assert (sample.id, sample.image, sample.width, sample.height) == ("first", "a.jpg", 100, 50)
    assert (sample.image_id, sample.metadata) == (7, {"split": "val"})
    assert sample.image_path == tmp_path.resolve() / "a.jpg"
    cat, dog, road = sample.objects
    assert cat == ("cat", "bbox_2d", (1.0, 2.5, 30.0, 40.0), True, 9.0, 3)
    assert dog == ("dog", "poly", (0.0, 0.0, 10.0, 0.0, 10.0, 10.0), False, None, None)
    assert road == ("road", "line", (0.0, 0.0, 99.0, 49.0), False, None, None)


def test_the_id_defaults_to_the_image_path_and_images_may_hold_one(tmp_path):
    """`images` with one entry is `image`; the id is the path as written."""
    record = {key: value for key, value in RECORD.items() if key != "image"}
    (sample,) = _read(_write(tmp_path, record | {"images": ["sub/b.jpg"]}))
    assert sample.id == sample.image == "sub/b.jpg"


def test_image_paths_are_only_given_where_images_are_needed(tmp_path):
    """Without images there is no path; the root is not asked for."""
    path = _write(tmp_path, RECORD)
    (sample,) = _read(path, need_images=False, image_root=tmp_path / "nowhere")
    assert sample.image_path is None
    with pytest.raises(DataError, match="not a folder"):
        open_dataset(path, image_root=tmp_path / "nowhere")


@pytest.mark.parametrize("frame", FRAMES)
def test_bins_and_tokens_mean_the_frame_of_the_record(tmp_path, frame):
    """Bins, and tokens as strings, are pixels by the closed form of the record's own frame."""
    extents = {
        "coordexp": (639 / 999, 479 / 999),
        "unit-1000": (640 / 1000, 480 / 1000),
        "unit-999": (640 / 999, 480 / 999),
        "square-1000": (640 / 1000, 640 / 1000),
    }
    kx, ky = extents[frame]
    head = {"image": "a.jpg", "width": 640, "height": 480, "frame": frame}
    bins = [10, 20, 500, 999]
    tokens = [f"<|coord_{k}|>" for k in bins]
    in_bins = head | {"coord_space": "bins", "objects": [{"desc": "x", "bbox_2d": bins}]}
    in_tokens = head | {"image": "b.jpg", "objects": [{"desc": "x", "bbox_2d": tokens}]}
    expected = (10 * kx, 20 * ky, 500 * kx, 999 * ky)
    for sample in _read(_write(tmp_path, in_bins, in_tokens)):
        assert sample.objects[0].values_px == pytest.approx(expected, abs=1e-9)


def test_the_given_frame_serves_records_that_name_none(tmp_path):
    """`frame` of open_dataset is the default; a record's own goes first."""
    objects = [{"desc": "x", "bbox_2d": [0, 0, 500, 500]}]
    plain = {"image": "a", "width": 11, "height": 11, "coord_space": "bins", "objects": objects}
    named = plain | {"image": "b", "frame": "coordexp"}
    first, second = _read(_write(tmp_path, plain, named), frame="unit-1000")
    assert first.objects[0].values_px[2] == pytest.approx(5.5)
    assert second.objects[0].values_px[2] == pytest.approx(500 / 999 * 10)


def test_numbers_are_pixels_whatever_their_magnitude(tmp_path):
    """Nothing is guessed: small numbers in a large image stay pixels."""
    record = RECORD | {"width": 4000, "height": 3000}
    record["objects"] = [{"desc": "x", "bbox_2d": [0.1, 0.2, 0.9, 0.8]}]
    (sample,) = _read(_write(tmp_path, record))
    assert sample.objects[0].values_px == (0.1, 0.2, 0.9, 0.8)


def _without(key):
    return {k: v for k, v in RECORD.items() if k != key}


def _with_box(box):
    return RECORD | {"objects": [OBJECT, {"desc": "x", "bbox_2d": box}]}


FAULTS = {
    "not an object": ([1, 2], "JSON object"),
    "no image": (_without("image"), "'image' is missing"),
    "no width": (_without("width"), "'width' is missing"),
    "no height": (_without("height"), "'height' is missing"),
    "no objects": (_without("objects"), "'objects' is missing"),
    "objects null": (RECORD | {"objects": None}, "'objects' must be a list"),
    "two images": (_without("image") | {"images": ["a", "b"]}, "exactly one"),
    "no images": (_without("image") | {"images": []}, "exactly one"),
    "two names": (RECORD | {"images": ["b.jpg"]}, "different files"),
    "image number": (RECORD | {"image": 3}, "'image' must be a string"),
    "image empty": (RECORD | {"image": " "}, "'image' is empty"),
    "width zero": (RECORD | {"width": 0}, "'width' must be"),
    "width negative": (RECORD | {"width": -3}, "'width' must be"),
    "width fraction": (RECORD | {"width": 3.5}, "'width' must be"),
    "width text": (RECORD | {"width": "100"}, "'width' must be"),
    "width true": (RECORD | {"width": True}, "'width' must be"),
    "width huge": (RECORD | {"width": 10**30}, "'width' must be"),
    "id blank": (RECORD | {"id": ""}, "'id' must be"),
    "id list": (RECORD | {"id": [1]}, "'id' must be"),
    "image_id text": (RECORD | {"image_id": "7"}, "'image_id' must be"),
    "metadata list": (RECORD | {"metadata": []}, "'metadata' must be"),
    "coord_space": (RECORD | {"coord_space": "normalised"}, "'coord_space' must be"),
    "frame": (RECORD | {"frame": "no-such"}, "unknown coordinate frame"),
    "frame list": (RECORD | {"frame": ["coordexp"]}, "'frame' must be"),
    "object list": (RECORD | {"objects": [[]]}, r"objects\[0\]: an object must be"),
    "blank desc": (RECORD | {"objects": [OBJECT | {"desc": " "}]}, r"objects\[0\]: 'desc'"),
    "no geometry": (RECORD | {"objects": [{"desc": "x"}]}, "exactly one of bbox_2d, poly, line"),
    "two geometries": (
        RECORD | {"objects": [OBJECT | {"line": [0, 0, 1, 1]}]},
        "exactly one of bbox_2d, poly, line",
    ),
    "three numbers": (_with_box([1, 2, 3]), r"objects\[1\]: 'bbox_2d' needs 4"),
    "text": (_with_box([1, 2, 3, "4"]), "only numbers or only coordinate tokens"),
    "nested": (_with_box([[1, 2], [3, 4]]), "needs 4"),
    "null": (_with_box([1, 2, 3, None]), "only numbers"),
    "token 1000": (_with_box(["<|coord_1000|>"] * 4), "is not a token"),
    "leading zero": (_with_box(["<|coord_01|>"] * 4), "is not a token"),
    "huge whole number": (_with_box([1, 2, 3, 10**400]), "not finite"),
    "odd polygon": (
        RECORD | {"objects": [{"desc": "x", "poly": [0, 0, 1, 1, 2, 2, 3]}]},
        "'poly' needs an even number",
    ),
    "short line": (RECORD | {"objects": [{"desc": "x", "line": [0, 0]}]}, "'line' needs"),
    "bin 1000": (_with_box([0, 0, 1, 1000]) | {"coord_space": "bins"}, "not a bin"),
    "bin 1.5": (_with_box([0, 0, 1, 1.5]) | {"coord_space": "bins"}, "not a bin"),
    "iscrowd": (RECORD | {"objects": [OBJECT | {"iscrowd": 2}]}, "'iscrowd'"),
    "area": (RECORD | {"objects": [OBJECT | {"area": "9"}]}, "'area'"),
    "path": (RECORD | {"image": "../a.jpg"}, "outside the image root"),
    "absolute path": (RECORD | {"image": "/etc/passwd"}, "outside the image root"),
    "url": (RECORD | {"image": "http://x.org/a.jpg"}, "URL"),
}


@pytest.mark.parametrize("need_images", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_file_and_line(tmp_path, fault, need_images):
    """Every fault is a DataError of one line that begins with file:line."""
    bad, message = FAULTS[fault]
    good = RECORD | {"id": "good"}
    path = _write(tmp_path, raw=[json.dumps(good), "", json.dumps(bad)])
    dataset = open_dataset(path, need_images=need_images)
    with pytest.raises(DataError, match=message) as caught:
        list(dataset.iter_samples())
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        '{"image": "b.jpg", "width": 10,',
        "not json",
        '{"image": "b.jpg", "width": NaN, "height": 1, "objects": []}',
        "[" * 100_000,
        '{"a": "\x01"}',
    ],
)
def test_lines_that_are_not_json_name_their_line(tmp_path, line):
    """Torn, foreign, NaN and endlessly nested lines are DataErrors, not tracebacks."""
    path = _write(tmp_path, raw=[json.dumps(RECORD), line])
    with pytest.raises(DataError) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}:2: not a JSON line")


def test_numbers_that_overflow_to_infinity_are_refused(tmp_path):
    """1e999 is no finite coordinate."""
    line = json.dumps(RECORD).replace("[1, 2, 30, 40]", "[1, 2, 1e999, 40]")
    with pytest.raises(DataError, match="not finite"):
        _read(_write(tmp_path, raw=[line]))


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path):
    """Latin-1 is not read as something else."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(RECORD).encode() + b'\n{"image": "\xff.jpg"}\n')
    with pytest.raises(DataError, match=rf"{path}:2: "):
        _read(path)


def test_marks_line_ends_and_blank_lines_do_not_matter(tmp_path):
    """A byte order mark, CRLF, blank lines and a missing last newline read the same."""
    lines = [json.dumps(RECORD | {"id": str(n)}) for n in range(3)]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    assert [sample.id for sample in _read(path)] == ["0", "1", "2"]
    assert len(open_dataset(path)) == 3


def test_unicode_line_separators_do_not_split_lines(tmp_path):
    """U+2028 and U+0085 inside a description are text."""
    record = RECORD | {"objects": [OBJECT | {"desc": "a\u2028b\x85c"}]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    (sample,) = _read(path)
    assert sample.objects[0].desc == "a\u2028b\x85c"


def test_lone_surrogates_in_descriptions_survive(tmp_path):
    """A half emoji in a description is kept as it is."""
    record = RECORD | {"objects": [OBJECT | {"desc": "\ud83d"}]}
    (sample,) = _read(_write(tmp_path, record))
    assert sample.objects[0].desc == "\ud83d"


def test_duplicate_ids_name_both_lines(tmp_path):
    """The second record with an id is an error that also tells the first."""
    path = _write(tmp_path, RECORD, RECORD | {"id": "other"}, RECORD)
    with pytest.raises(DataError, match=r"'a.jpg' is already on line 1") as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}:3: ")


def test_degenerate_boxes_are_kept_by_the_reader(tmp_path):
    """Zero-area and inverted ground truth is read; validation and scoring deal with it."""
    record = RECORD | {
        "objects": [{"desc": "x", "bbox_2d": [9, 9, 9, 9]}, {"desc": "y", "bbox_2d": [9, 9, 3, 3]}]
    }
    (sample,) = _read(_write(tmp_path, record))
    assert len(sample.objects) == 2


def test_reading_streams(tmp_path):
    """A fault in line 1,000 does not keep the first samples back."""
    lines = [json.dumps(RECORD | {"id": str(n)}) for n in range(999)]
    samples = open_dataset(_write(tmp_path, raw=[*lines, "broken"])).iter_samples()
    assert next(samples).id == "0"


def test_gzip_is_told_by_content(tmp_path):
    """Compressed JSONL reads the same under any name; damage is a DataError."""
    data = json.dumps(RECORD).encode() + b"\n"
    for name in ("data.jsonl.gz", "data.jsonl"):
        (tmp_path / name).write_bytes(gzip.compress(data))
        assert len(_read(tmp_path / name)) == 1
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(data * 500)[:40])
    with pytest.raises(DataError, match="cannot be read"):
        _read(broken)


def test_an_empty_file_is_an_empty_dataset(tmp_path):
    """No records are no error of the reader."""
    for content in (b"", b"\n \n", b"\xef\xbb\xbf"):
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)
        dataset = open_dataset(path)
        assert (len(dataset), list(dataset), dataset.categories) == (0, [], None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([RECORD]), "a JSON array is not a dataset"),
        (json.dumps([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}]), "detections"),
        (json.dumps(RECORD, indent=1), "over several lines"),
        ("hello\nworld\n", "neither JSON lines"),
    ],
)
def test_other_forms_are_refused_with_advice(tmp_path, content, message):
    """What is neither JSONL nor COCO says what it is instead."""
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_dataset(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    """No file, or a folder, is one clear line."""
    with pytest.raises(DataError, match="no such dataset file"):
        open_dataset(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(tmp_path)
    with pytest.raises(ConfigError, match="unknown coordinate frame"):
        open_dataset(_write(tmp_path, RECORD), frame="nope")


def test_the_hash_is_of_the_file(tmp_path):
    """sha256 changes with any byte and is that of the file on the disk."""
    import hashlib

    path = _write(tmp_path, RECORD)
    assert open_dataset(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_image_is_not_the_readers_fault_but_gets_a_hint(tmp_path):
    """The reader leaves absent files to the rollout; the hint finds the folder `images`."""
    (sample,) = _read(_write(tmp_path, RECORD))
    assert not sample.image_path.exists()
    assert image_root_hint(tmp_path, "a.jpg") is None
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"x")
    assert os.fspath(tmp_path / "images") in image_root_hint(tmp_path, "a.jpg")


def test_canvas_texts():
    """640x480 is a canvas; anything else is a ConfigError."""
    assert parse_canvas("640x480") == (640, 480)
    for text in ("640", "0x5", "x", "-1x2", "1e3x2", ""):
        with pytest.raises(ConfigError):
            parse_canvas(text)


def test_whole_floats_are_sizes(tmp_path):
    """640.0 is a whole number of pixels."""
    (sample,) = _read(_write(tmp_path, RECORD | {"width": 640.0}))
    assert sample.width == 640
    assert isinstance(sample.width, int)
    assert math.isclose(sample.width, 640)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"label": "cat", "bbox_2d": [1, 2, 3, 4]}, "its keys are 'label, bbox_2d'"),
        ({"desc": "cat", "bbox": [1, 2, 3, 4]}, "its keys are 'desc, bbox'"),
    ],
)
def test_an_object_with_other_names_is_told_its_own(record, told):
    """Where `desc` or the geometry stands under another name, the message shows that name."""
    with pytest.raises(DataError, match=told):
        read_object(record, width=64, height=64, frame=frame_named("coordexp"), bins=False)
