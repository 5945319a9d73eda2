"""LVIS annotation files: read with what they say of classes and images, and carried into runs."""

import copy
import json
import random
import re

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from coordeval.cli.rollout import rollout
from coordeval.data.convert import convert_dataset
from coordeval.data.dataset import open_dataset
from coordeval.data.federated import write_federated
from coordeval.data.objects import write_object
from coordeval.data.validate import validate_dataset
from coordeval.errors import DataError
from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import DIALECTS
from coordeval.records import Category, FederatedLabels
from coordeval.runs import open_run

BOX = [0, 0, 32, 24]
LVIS = {
    "images": [
        {
            "id": 5,
            "width": 64,
            "height": 48,
            "coco_url": "http://images.cocodataset.org/val2017/000000000005.jpg",
            "neg_category_ids": [20],
            "not_exhaustive_category_ids": [],
        },
        {
            "id": 6,
            "width": 64,
            "height": 48,
            "coco_url": "http://images.cocodataset.org/train2017/000000000006.jpg",
            "neg_category_ids": [10],
            "not_exhaustive_category_ids": [20],
        },
    ],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 10, "bbox": BOX, "area": 700, "segmentation": []}
    ],
    "categories": [
        {
            "id": 10,
            "name": "air_conditioner",
            "synonyms": ["air_conditioner"],
            "synset": "air_conditioner.n.01",
            "frequency": "f",
        },
        {"id": 20, "name": "zebra", "synonyms": ["zebra"], "synset": "z", "frequency": "r"},
    ],
}
LABELS = [
    FederatedLabels(negative_ids=(20,), not_exhaustive_ids=()),
    FederatedLabels(negative_ids=(10,), not_exhaustive_ids=(20,)),
]


@pytest.fixture
def lvis(tmp_path):
    """The file above, changed by a function, and two small images where it says they are."""

    def write(change=lambda document: None):
        document = copy.deepcopy(LVIS)
        change(document)
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps(document))
        for folder, name in (("val2017", "000000000005"), ("train2017", "000000000006")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (64, 48)).save(tmp_path / folder / f"{name}.jpg")
        return path

    return write


def test_images_are_named_by_the_end_of_their_url(lvis, tmp_path):
    """LVIS has no file names: folder and file of the URL lie under the image root."""
    samples = list(open_dataset(lvis()))
    assert [sample.image for sample in samples] == [
        "val2017/000000000005.jpg",
        "train2017/000000000006.jpg",
    ]
    assert all(sample.image_path.is_file() for sample in samples)
    assert validate_dataset(lvis(), images="open").log.counts.total() == 0


def test_federated_labels_and_frequencies_are_read(lvis):
    """Negative and not exhaustive ids per image, r, c, f per class."""
    dataset = open_dataset(lvis(), need_images=False)
    assert [sample.federated for sample in dataset] == LABELS
    assert [category.frequency for category in dataset.categories] == ["f", "r"]


def test_plain_coco_has_none(lvis):
    """Without the two lists an image says nothing, and a class without frequency has none."""

    def plain(document):
        for image in document["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
        for category in document["categories"]:
            del category["frequency"]

    dataset = open_dataset(lvis(plain), need_images=False)
    assert [sample.federated for sample in dataset] == [None, None]
    assert [category.frequency for category in dataset.categories] == [None, None]


@pytest.mark.parametrize("to", ["pixels", "bins", "tokens", "coco"])
def test_conversions_keep_what_is_known_of_images_and_classes(lvis, tmp_path, to):
    """Lists, class list and frequencies survive every form, and the way back to COCO."""

    def more(document):
        document["categories"].append({"id": 30, "name": "yeti", "frequency": "c"})

    source = open_dataset(lvis(more), need_images=False)
    out = tmp_path / ("out.json" if to == "coco" else "out.jsonl")
    counts = convert_dataset(source, out, to=to)
    again = open_dataset(out, need_images=False)
    back = tmp_path / "back.json"
    convert_dataset(again, back, to="coco")
    for dataset in (again, open_dataset(back, need_images=False)):
        assert [sample.federated for sample in dataset] == LABELS
        assert dataset.categories == source.categories
    document = json.loads(back.read_text())
    assert [a["category_id"] for a in document["annotations"]] == [10]
    assert all("federated_categories" not in image for image in document["images"])
    assert counts.classes_lost == 0
    assert validate_dataset(out, images="none").log.counts.total() == 0


def test_every_record_names_the_classes_that_it_mentions(lvis, tmp_path):
    """Records that are shuffled or cut off from the first one keep ids and frequencies."""
    out = tmp_path / "out.jsonl"
    convert_dataset(open_dataset(lvis(), need_images=False), out, to="pixels")
    second = out.read_text().splitlines()[1]
    out.write_text(second + "\n")
    assert open_dataset(out, need_images=False).categories == (
        Category(id=10, name="air_conditioner", frequency="f"),
        Category(id=20, name="zebra", frequency="r"),
    )


def test_plain_coco_is_converted_as_ever(lvis, tmp_path):
    """Where nothing is federated no record names classes, and those without objects are counted."""

    def plain(document):
        for image in document["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
        for category in document["categories"]:
            del category["frequency"]

    out = tmp_path / "out.jsonl"
    counts = convert_dataset(open_dataset(lvis(plain), need_images=False), out, to="pixels")
    assert counts.classes_lost == 1
    assert "federated" not in out.read_text()
    assert open_dataset(out, need_images=False).categories is None


@pytest.mark.parametrize("seed", range(4))
def test_ap_by_frequency_is_the_same_before_and_after(tmp_path, seed):
    """COCO, its JSONL and the COCO made of that give a run the same `lvis/*`, each number of it."""
    rng = random.Random(seed)

    def box():
        x, y = rng.randrange(200), rng.randrange(120)
        return [x, y, rng.randrange(8, 150), rng.randrange(8, 150)]

    names = [f"thing {number}" for number in range(7)]
    document = {"images": [], "annotations": [], "categories": []}
    for number, name in enumerate(names, start=1):
        document["categories"].append({"id": number, "name": name, "frequency": "rcf"[number % 3]})
    for image in range(1, 7):
        present = rng.sample(range(1, 6), 2)
        absent = [number for number in range(1, 7) if number not in present][:2]
        size = {"width": 400, "height": 300, "file_name": f"{image}.png"}
        lists = {"neg_category_ids": absent, "not_exhaustive_category_ids": present[:1]}
        document["images"].append({"id": image, **size, **lists})
        for number in present * 2:
            facts = {"id": len(document["annotations"]) + 1, "image_id": image, "bbox": box()}
            facts |= {"area": 30.5 * rng.randrange(1, 400), "category_id": number, "iscrowd": 0}
            document["annotations"].append(facts)
    first, lines, back = (tmp_path / name for name in ("a.json", "b.jsonl", "c.json"))
    first.write_text(json.dumps(document))
    convert_dataset(open_dataset(first, need_images=False), lines, to="pixels")
    convert_dataset(open_dataset(lines, need_images=False), back, to="coco")
    written = {
        image["id"]: [(rng.choice(names), box()) for _ in range(8)]
        + [
            (names[a["category_id"] - 1], a["bbox"])
            for a in document["annotations"]
            if a["image_id"] == image["id"] and rng.random() < 0.7
        ]
        for image in document["images"]
    }
    found = [
        _scored(open_dataset(path, need_images=False), written) for path in (first, lines, back)
    ]
    assert found[0] == found[1] == found[2]
    assert all(found[0][f"lvis/AP{letter}"] is not None for letter in "rcf")
    assert found[0]["lvis/unjudged"] > 0


def _scored(dataset, written):
    """`lvis/*` of what was written, by image id, against a dataset."""
    lines = []
    for sample in dataset:
        records = ", ".join(
            f'{{"desc": "{name}", "bbox_2d": [{x}, {y}, {x + w}, {y + h}]}}'
            for name, (x, y, w, h) in written[sample.image_id]
        )
        line = {
            "id": sample.id,
            "width": sample.width,
            "height": sample.height,
            "gt": [write_object(obj) for obj in sample.objects],
            "text": f'{{"objects": [{records}]}}',
            **write_federated(sample.federated),
        }
        lines.append(json.dumps(line) + "\n")
    path = dataset.path.with_suffix(".rollouts.jsonl")
    path.write_text("".join(lines))
    result = score_run(
        open_run(path), dialect=DIALECTS["coordjson-pixels"], categories=dataset.categories
    )
    assert result.metrics["parse/dropped_invalid"] == 0
    return {key: value for key, value in result.metrics.items() if key.startswith("lvis/")}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["images"][1].pop("neg_category_ids"), "image 6: has 'not_exhaustive"),
        (lambda d: d["images"][0].update(neg_category_ids=3), "image 5: 'neg_category_ids'"),
        (lambda d: d["images"][0].update(neg_category_ids=["3"]), "image 5: 'neg_category_ids'"),
        (lambda d: d["categories"][1].update(frequency="x"), "category 20: 'frequency'"),
    ],
)
def test_faults_name_the_place_when_reading_and_when_validating(lvis, change, where):
    """One list alone, ids that are none, and unknown frequencies are refused and reported."""
    path = lvis(change)
    with pytest.raises(DataError, match=where):
        list(open_dataset(path, need_images=False))
    report = validate_dataset(path, images="none")
    assert report.log.counts["bad_value"] == 1


def test_jsonl_metadata_with_one_list_alone_is_a_fault(tmp_path):
    """A JSONL record is held to the same, with its line."""
    record = {"image": "a.png", "width": 4, "height": 4, "objects": []}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(record | {"metadata": {"neg_category_ids": [1]}}) + "\n")
    with pytest.raises(DataError, match=r"d\.jsonl:1: 'metadata' has 'neg_category_ids'"):
        list(open_dataset(path, need_images=False))
    assert validate_dataset(path, images="none").log.counts["bad_value"] == 1


CAT = {"id": 1, "name": "cat", "frequency": "r"}


@pytest.mark.parametrize(
    ("classes", "where"),
    [
        ("cat", "must be a list of id, name and frequency"),
        (["cat"], "must be a list of id, name and frequency"),
        ([CAT | {"id": "1"}], "'id' must be an integer"),
        ([CAT | {"id": True}], "'id' must be an integer"),
        ([CAT | {"name": " "}], "category 1: 'name' must be a non-blank string"),
        ([CAT | {"frequency": "rare"}], "'frequency' must be r, c or f"),
    ],
)
def test_classes_of_records_are_checked_with_their_line(tmp_path, classes, where):
    """Reading the samples, the class list, and validation all say what is wrong and where."""
    path = _records_with(tmp_path, [CAT], classes)
    for read in (list, lambda dataset: dataset.categories):
        with pytest.raises(DataError, match=where) as caught:
            read(open_dataset(path, need_images=False))
        assert str(caught.value).startswith(f"{path}:2: 'metadata' ")
    assert validate_dataset(path, images="none").log.counts["bad_value"] == 1


def test_records_that_contradict_each_other_are_refused(tmp_path):
    """One id is one class: the class list and validation name both lines."""
    path = _records_with(tmp_path, [CAT], [CAT | {"frequency": "c"}])
    text = "category 1 is 'cat' (c) here and 'cat' (r) on line 1"
    with pytest.raises(DataError, match=re.escape(text)):
        _ = open_dataset(path, need_images=False).categories
    (problem,) = validate_dataset(path, images="none").log.first
    assert (problem.kind, problem.place) == ("duplicate_id", f"{path}:2")
    assert text in problem.message


def test_classes_that_no_record_names_come_behind_the_list(tmp_path):
    """Back in COCO every description has a class; free ids are kept, others count on."""
    path = _records_with(tmp_path, [CAT], None)
    record = json.loads(path.read_text().splitlines()[1])
    for name, number in (("cat", 1), ("dog", 1), ("elk", 7), ("fox", None)):
        item = {"desc": name, "bbox_2d": [0, 0, 2, 2]}
        record["objects"].append(item if number is None else item | {"category_id": number})
    path.write_text(path.read_text().splitlines()[0] + "\n" + json.dumps(record) + "\n")
    out = tmp_path / "out.json"
    convert_dataset(open_dataset(path, need_images=False), out, to="coco")
    document = json.loads(out.read_text())
    assert document["categories"] == [
        CAT,
        *({"id": number, "name": name} for number, name in ((2, "dog"), (7, "elk"), (8, "fox"))),
    ]
    assert [a["category_id"] for a in document["annotations"]] == [1, 2, 7, 8]


def test_two_classes_of_one_name_keep_their_objects(lvis, tmp_path):
    """An object goes back to the class that it had, not to the last one of that name."""

    def twins(document):
        document["categories"][1]["name"] = "air_conditioner"

    out = tmp_path / "out.json"
    convert_dataset(open_dataset(lvis(twins), need_images=False), out, to="coco")
    assert [a["category_id"] for a in json.loads(out.read_text())["annotations"]] == [10]


def _records_with(folder, *classes):
    """A JSONL of empty images whose metadata name these classes (None: no metadata)."""
    path = folder / "d.jsonl"
    lines = []
    for number, named in enumerate(classes):
        record = {"image": f"{number}.png", "width": 4, "height": 4, "objects": []}
        metadata = None if named is None else {"federated_categories": named}
        lines.append(json.dumps(record | {"metadata": metadata}) + "\n")
    path.write_text("".join(lines))
    return path


def test_a_url_that_leaves_the_root_is_refused(lvis):
    """A hostile URL names no file outside the image root."""
    path = lvis(lambda d: d["images"][0].update(coco_url="http://x/../.."))
    with pytest.raises(DataError, match="image 5"):
        list(open_dataset(path, need_images=False))


def test_a_rollout_carries_labels_and_frequencies_into_the_run(lvis, tmp_path, monkeypatch):
    """`rollout` writes them to lines and run.json, and scoring finds federated AP there."""
    monkeypatch.chdir(tmp_path)
    data = lvis()
    text = '{"objects": [{"desc": "air_conditioner", "bbox_2d": [<|coord_0|>, <|coord_0|>, '
    text += "<|coord_500|>, <|coord_500|>]}]}"
    recording = [
        {"id": sample.id, "width": 64, "height": 48, "gt": [], "text": text}
        for sample in open_dataset(data, need_images=False)
    ]
    (tmp_path / "rec.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recording))
    app = typer.Typer()
    app.command()(rollout)
    options = ["--engine", "replay", "--frame", "unit-1000", "--data", data, "--out", "run"]
    done = CliRunner().invoke(app, ["rec.jsonl", *map(str, options), "--no-score"])
    assert done.exit_code == 0, (done.output, done.exception)
    run = open_run(tmp_path / "run")
    assert [line.federated for line in run.rollouts()] == LABELS
    assert [category.frequency for category in run.categories] == ["f", "r"]
    metrics = score_run(run).metrics
    # Equal scores: the right box of the first image comes before the wrong one of the second.
    assert metrics["lvis/AP"] == metrics["lvis/APf"] == pytest.approx(1.0)
    assert metrics["lvis/APr"] is None
    assert metrics["lvis/images"] == 2


def test_runs_with_other_labels_do_not_compare(lvis, tmp_path):
    """The lists are part of the ground truth: compare and baselines tell them apart."""
    from coordeval.stats.baseline import ground_truth_of
    from coordeval.stats.pairing import pair_runs

    line = {"id": "a", "width": 9, "height": 9, "gt": [], "text": '{"objects": []}'}
    lists = {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    for name, more in (("x", {}), ("y", lists), ("z", lists | {"neg_category_ids": [2]})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line | more) + "\n")
    runs = [open_run(tmp_path / f"{name}.jsonl") for name in "xyz"]
    assert pair_runs([runs[1], runs[1]]).other_truth == ((), ())
    assert pair_runs(runs).other_truth == ((), ("a",), ("a",))
    hashes = {ground_truth_of(score_run(run).columns)["sha256"] for run in runs}
    assert len(hashes) == 3
