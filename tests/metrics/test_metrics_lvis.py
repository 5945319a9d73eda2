"""Federated AP: equal to the package `lvis`, to a plain reference, and to what can be said by hand."""

import json
import random
from pathlib import Path

import pytest
from lvis_reference import federated_ap

from coordeval.metrics.catalogue import describe
from coordeval.metrics.coco_engine import EngineName
from coordeval.parsers.dialects import DIALECTS

OFFICIAL = json.loads((Path(__file__).parent / "lvis_official.json").read_text(encoding="utf-8"))[
    "cases"
]
ENGINES = EngineName.__args__
PIXELS = DIALECTS["coordjson-pixels"]
KEYS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *("AR@300", "ARs@300", "ARm@300", "ARl@300"),
)


def lines_of(document, detections):
    """Rollout lines that say what a document and its detections say."""
    names = {c["id"]: c["name"] for c in document["categories"]}
    lines = []
    for image in document["images"]:
        own = [d for d in detections if d["image_id"] == image["id"]]
        records = []
        for d in own:
            x, y, w, h = d["bbox"]
            name = names[d["category_id"]]
            records.append(f'{{"desc": "{name}", "bbox_2d": [{x}, {y}, {x + w}, {y + h}]}}')
        truth = []
        for a in document["annotations"]:
            if a["image_id"] == image["id"]:
                x, y, w, h = a["bbox"]
                truth.append(
                    {
                        "desc": names[a["category_id"]],
                        "bbox_2d": [x, y, x + w, y + h],
                        "area": a.get("area", w * h),
                        "category_id": a["category_id"],
                    }
                )
        line = {
            "id": str(image["id"]),
            "width": image["width"],
            "height": image["height"],
            "gt": truth,
            "text": '{"objects": [' + ", ".join(records) + "]}",
            "scores": [d["score"] for d in own],
        }
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key in image:
                line[key] = image[key]
        lines.append(line)
    return lines


@pytest.fixture
def lvis(score):
    """Score a document and its detections; `lvis/*` without the prefix, -1 for no value."""

    def run(document, detections, *, engine=None, meta=True):
        head = {"categories": document["categories"]} if meta else {}
        result = score(lines_of(document, detections), head, dialect=PIXELS, engine=engine)
        assert result.metrics["parse/dropped_invalid"] == 0
        return {
            key.removeprefix("lvis/"): value
            for key, value in result.metrics.items()
            if key.startswith("lvis/")
        }

    return run


def document(images, annotations, categories="ab"):
    """A document over 400 x 300 images; annotations are (image, category, box)."""
    return {
        "images": [
            {"id": number, "width": 400, "height": 300}
            | dict(
                zip(("neg_category_ids", "not_exhaustive_category_ids"), lists, strict=True)
                if lists is not None
                else ()
            )
            for number, lists in enumerate(images, start=1)
        ],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": box}
            for image, category, box in annotations
        ],
        "categories": [
            {"id": number, "name": name, "frequency": "rcf"[number % 3]}
            for number, name in enumerate(categories, start=1)
        ],
    }


def det(image, category, box, score):
    """One detection."""
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


HERE, THERE = [10, 10, 100, 100], [200, 150, 100, 100]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", range(len(OFFICIAL)))
def test_the_numbers_are_those_of_the_lvis_package(lvis, engine, case):
    """Recorded results of lvis 0.5.3, exact: free scores, ties, constant scores, 330 detections."""
    recorded = OFFICIAL[case]
    found = lvis(recorded["ground_truth"], recorded["detections"], engine=engine)
    assert {key: -1 if found[key] is None else found[key] for key in KEYS} == recorded["results"]


@pytest.mark.parametrize("seed", range(12))
def test_both_engines_equal_a_plain_reference(lvis, seed):
    """Random federated scenes, with ties, give what the definition gives, written down naively."""
    rng = random.Random(seed)

    def box():
        sides = [rng.randrange(200), rng.randrange(120)]
        return [*sides, rng.randrange(8, 150), rng.randrange(8, 150)]

    images, annotations, detections = [], [], []
    for number in range(1, 5):
        present = rng.sample(range(1, 6), 2)
        absent = rng.sample([c for c in range(1, 6) if c not in present], 1)
        images.append((absent, rng.sample(present + absent, rng.randrange(3))))
        for category in present:
            for _ in range(rng.randrange(1, 3)):
                annotations.append((number, category, box()))
                x, y, w, h = annotations[-1][2]
                near = [x + rng.randrange(6), y + rng.randrange(6), w, h]
                detections.append(det(number, category, near, rng.randrange(5) / 5))
        detections += [
            det(number, rng.randrange(1, 6), box(), rng.randrange(5) / 5) for _ in range(5)
        ]
    scene = document(images, annotations, "abcde")
    for annotation in scene["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    expected = federated_ap(scene, detections)
    for engine in ENGINES:
        found = lvis(scene, detections, engine=engine)
        for key in KEYS:
            assert found[key] == pytest.approx(expected[key], abs=1e-12), (engine, key)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("lists", "ap", "unjudged"),
    [(([], []), 1.0, 1), (([1], []), 0.5, 0), (([1], [1]), 1.0, 0)],
    ids=["nobody looked for it", "known to be absent", "absent here, not exhaustive"],
)
def test_a_class_counts_only_where_it_was_looked_for(lvis, engine, lists, ap, unjudged):
    """A surer detection on a second image is ignored, wrong, or ignored, by that image's lists."""
    scene = document([([], []), lists], [(1, 1, HERE)])
    found = lvis(scene, [det(1, 1, HERE, 0.5), det(2, 1, HERE, 0.9)], engine=engine)
    assert found["AP"] == pytest.approx(ap)
    assert found["unjudged"] == unjudged
    assert found["AR@300"] == 1.0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("unsure", "ap"), [([], 0.5), ([1], 1.0)])
def test_unmatched_detections_of_a_class_that_is_not_exhaustive_are_ignored(
    lvis, engine, unsure, ap
):
    """The surer of two detections lies beside the object: wrong, or ignored where more may be."""
    scene = document([([], unsure)], [(1, 1, HERE)])
    found = lvis(scene, [det(1, 1, THERE, 0.9), det(1, 1, HERE, 0.5)], engine=engine)
    assert found["AP"] == pytest.approx(ap)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("others", "ap"), [(299, 1 / 300), (300, 0.0)])
def test_three_hundred_detections_of_an_image_count_over_all_classes(lvis, engine, others, ap):
    """Surer detections of the negative class push the right one over the limit, even unjudged."""
    scene = document([([2], [])], [(1, 1, HERE)])
    scene["categories"].append({"id": 3, "name": "c", "frequency": "f"})
    crowd = [det(1, 2 + k % 2, [k, 0, 5, 5], 0.9) for k in range(others)]
    found = lvis(scene, [*crowd, det(1, 1, HERE, 0.5)], engine=engine)
    assert found["AP"] == pytest.approx(1.0 if ap else 0.0)
    assert found["over_limit"] == (others == 300)
    assert found["unjudged"] == others // 2


def test_ap_by_frequency_is_over_the_classes_of_that_frequency(lvis):
    """A (common) is found, b (frequent) is not; there are no rare classes with ground truth."""
    scene = document([([], [])], [(1, 1, HERE), (1, 2, THERE)], "abc")
    found = lvis(scene, [det(1, 1, HERE, 0.5)])
    assert (found["APc"], found["APf"], found["APr"]) == (pytest.approx(1.0), 0.0, None)
    assert found["AP"] == pytest.approx(0.5)


def test_crowd_marks_are_not_heeded(lvis, score):
    """LVIS knows no crowd: a region marked so is an object to find."""
    scene = document([([], [])], [(1, 1, HERE)])
    lines = lines_of(scene, [det(1, 1, HERE, 0.5)])
    lines[0]["gt"][0]["iscrowd"] = 1
    metrics = score(lines, {"categories": scene["categories"]}, dialect=PIXELS).metrics
    assert metrics["lvis/AP"] == pytest.approx(1.0)
    assert metrics["coco/AP"] is None


def test_without_federated_labels_there_are_no_federated_numbers(lvis):
    """A run whose lines carry no lists has no key lvis/*."""
    assert lvis(document([None], [(1, 1, HERE)]), [det(1, 1, HERE, 0.5)]) == {}


def test_images_without_labels_are_left_out_and_counted(lvis):
    """Only one of two images says what it was judged for: the other cannot lower the numbers."""
    scene = document([([], []), None], [(1, 1, HERE), (2, 1, HERE)])
    found = lvis(scene, [det(1, 1, HERE, 0.5)])
    assert (found["images"], found["AP"]) == (1, pytest.approx(1.0))


def test_nothing_predicted_and_nothing_annotated_are_fine(lvis):
    """No detections give 0, no ground truth gives no value."""
    assert lvis(document([([], [])], [(1, 1, HERE)]), [])["AP"] == 0.0
    empty = lvis(document([([1], [])], []), [det(1, 1, HERE, 0.5)])
    assert empty["AP"] is None
    assert empty["images"] == 1


def test_lists_without_ids_to_go_with_give_no_numbers(lvis, score):
    """Objects without a category id: nobody knows what the lists are about, so null and no guess."""
    scene = document([([2], [])], [(1, 1, HERE)])
    lines = lines_of(scene, [det(1, 1, HERE, 0.5)])
    assert score(lines, dialect=PIXELS).metrics["lvis/AP"] == pytest.approx(1.0)
    del lines[0]["gt"][0]["category_id"]
    metrics = score(lines, dialect=PIXELS).metrics
    assert (metrics["lvis/AP"], metrics["lvis/images"]) == (None, 1)


def test_another_class_list_does_not_change_what_the_ids_mean(lvis, score):
    """Scoring over classes of one's own leaves the lists to the data set's ids."""
    from coordeval.records import Category

    scene = document([([], []), ([2], [])], [(1, 1, HERE)])
    lines = lines_of(scene, [det(1, 1, HERE, 0.5), det(2, 1, HERE, 0.9)])
    own = [Category(id=2, name="a"), Category(id=1, name="b")]
    meta = {"categories": scene["categories"]}
    metrics = score(lines, meta, dialect=PIXELS, categories=own).metrics
    assert metrics["lvis/AP"] == pytest.approx(1.0)


def test_every_key_is_in_the_catalogue(lvis):
    """Docs, gates and reports know every number."""
    found = lvis(document([([], [])], [(1, 1, HERE)]), [])
    assert set(found) == {*KEYS, "images", "unjudged", "over_limit"}
    assert all(describe(f"lvis/{key}") is not None for key in found)


@pytest.mark.parametrize(
    "broken",
    [
        {"neg_category_ids": []},
        {"neg_category_ids": [1], "not_exhaustive_category_ids": "2"},
        {"neg_category_ids": [True], "not_exhaustive_category_ids": []},
        {"neg_category_ids": [1.5], "not_exhaustive_category_ids": []},
    ],
)
def test_broken_lists_name_file_and_line(score, line, broken):
    """One list without the other, and lists of anything but ids, are faults with their place."""
    from coordeval.errors import DataError

    with pytest.raises(DataError, match=r"rollouts.jsonl:1: .*category_ids"):
        score([line(**broken)])
