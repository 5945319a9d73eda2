"""LVIS annotation files: read with what they say of classes and images, and carried into runs."""

import copy
import json

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from coordeval.cli.rollout import rollout
from coordeval.data.convert import convert_dataset
from coordeval.data.dataset import open_dataset
from coordeval.data.validate import validate_dataset
from coordeval.errors import DataError
from coordeval.metrics.score import score_run
from coordeval.records import FederatedLabels
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


@pytest.mark.parametrize("to", ["pixels", "tokens", "coco"])
def test_conversions_keep_what_is_known_of_images(lvis, tmp_path, to):
    """The lists survive JSONL and COCO; frequencies survive COCO, which has a place for them."""
    out = tmp_path / ("out.json" if to == "coco" else "out.jsonl")
    convert_dataset(open_dataset(lvis(), need_images=False), out, to=to)
    again = open_dataset(out, need_images=False)
    assert [sample.federated for sample in again] == LABELS
    if to == "coco":
        assert [category.frequency for category in again.categories] == ["f", "r"]


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
