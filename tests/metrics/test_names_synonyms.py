"""Synonyms: what they do to a score is what renaming everything by hand does."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.coords import frame_named
from coordeval.errors import ConfigError
from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.catalogue import describe
from coordeval.metrics.classes import build_universe
from coordeval.metrics.names.idle import idle_groups
from coordeval.metrics.names.matching import NameMatching
from coordeval.metrics.names.synonyms import SynonymNames
from coordeval.metrics.protocols import PROTOCOLS
from coordeval.metrics.score import score_run
from coordeval.metrics.write import write_score
from coordeval.records import Category
from coordeval.runs import Run, rollout_from_json

COUCH = {"couch": ["sofa", "settee"]}


def protocol(groups, name="coordeval"):
    """A protocol whose names are matched by those groups."""
    return replace(PROTOCOLS[name], names=NameMatching((SynonymNames(groups, source="s.toml"),)))


def box(desc, at=0):
    """A ground-truth object of 100 x 100."""
    return {"desc": desc, "bbox_2d": [at, 0, at + 100, 100]}


def quality(result):
    """The metrics that names decide."""
    return {
        key: value
        for key, value in result.metrics.items()
        # What is a repeat goes by what was written, so dedup/* may differ.
        if key.startswith(("f1/", "f1_loc/", "coco/", "count/"))
    }


@pytest.fixture
def sofas(line, rec, text):
    """One line: two objects, one called like its class and one by a synonym."""
    answer = text(rec("Sofa", [0, 0, 100, 100]), rec("bed", [200, 0, 300, 100]))
    return [line(answer, [box("couch"), box("bed", 200)])]


def test_a_synonym_is_its_class(score, sofas):
    """The prediction 'Sofa' is right for the object 'couch'; without the synonyms it is wrong."""
    assert score(sofas).metrics["f1/0.50/f1"] == 0.5
    result = score(sofas, protocol=protocol(COUCH))
    assert result.metrics["f1/0.50/f1"] == 1.0
    assert result.metrics["coco/AP"] == pytest.approx(1.0)
    assert result.metrics["count/unknown_class"] == 0
    rows = [
        (r.name, r.class_name, r.by, r.similarity, r.count, r.ground_truth) for r in result.names
    ]
    assert rows == [("bed", "bed", "exact", None, 1, 1), ("sofa", "couch", "synonym", None, 1, 0)]
    assert [result.metrics[f"names/{way}"] for way in ("exact", "synonym", "embedding")] == [
        1,
        1,
        0,
    ]
    assert all(describe(key) for key in result.metrics)


@pytest.mark.parametrize(
    ("classes", "groups", "label"),
    [
        (["couch", "bed"], COUCH, "couch"),
        (["Settee", "bed"], COUCH, "Settee"),
        (["settee", "bed"], {"sofa": ["couch", "settee"]}, "settee"),
        (None, COUCH, "couch"),
        (None, {"Liege": ["sofa", "couch"]}, "Liege"),
    ],
)
def test_groups_hold_in_both_directions(score, sofas, classes, groups, label):
    """The class is the group's name in the class list, else its canonical name; ground truth too."""
    categories = classes and [Category(id=n, name=name) for n, name in enumerate(classes, 1)]
    result = score(sofas, protocol=protocol(groups), categories=categories)
    assert result.metrics["f1/0.50/f1"] == 1.0
    assert result.metrics["count/classes_added"] == 0
    assert set(result.columns.universe.labels) == {label, "bed"}


def test_ground_truth_under_two_names_is_one_class(score, line, rec, text):
    """Without a class list, 'sofa' and 'couch' of the ground truth become one class."""
    lines = [line(text(rec("settee", [0, 0, 100, 100])), [box("sofa"), box("couch", 200)])]
    result = score(lines, protocol=protocol(COUCH))
    assert result.columns.universe.labels == ("couch",)
    assert (result.metrics["f1/0.50/tp"], result.metrics["f1/0.50/fn"]) == (1, 1)
    assert [(row.name, row.by, row.ground_truth) for row in result.names] == [
        ("settee", "synonym", 0),
        ("sofa", "synonym", 1),
    ]


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ({"a": ["x"], "b": ["X"]}, "'X' stands for both 'a' and 'b'"),
        ({"a": ["b"], "b": ["c"]}, "'b' stands for both 'a' and 'b'"),
        ({"A": ["x"], "a": ["y"]}, "'a' stands for both 'A' and 'a'"),
        ({"a": [" "]}, "blank"),
        ({" ": ["a"]}, "blank"),
        ({"a": []}, "no synonym"),
        ({}, "no synonym"),
        ({"bed": ["couch"]}, "'bed' and 'couch' are synonyms here and two classes"),
    ],
)
def test_contradictions_are_one_clear_line(score, sofas, groups, match):
    """A name for two classes, a blank one, or two classes of the list made one: refused."""
    categories = [Category(id=1, name="couch"), Category(id=2, name="bed")]
    with pytest.raises(ConfigError, match=match) as caught:
        score(sofas, protocol=protocol(groups), categories=categories)
    assert "\n" not in str(caught.value)


def test_repeats_inside_a_group_do_no_harm(score, sofas):
    """The canonical name among its synonyms, and a synonym twice, are no contradiction."""
    groups = {"couch": ["Couch", "sofa", "SOFA "]}
    assert score(sofas, protocol=protocol(groups)).metrics["f1/0.50/f1"] == 1.0


def test_the_rule_of_the_protocol_normalises_synonyms(score, line, rec, text):
    """`coordexp` reads _ as a space in names, in the file as well."""
    lines = [line(text(rec("sofa_bed", [0, 0, 100, 100])), [box("couch")])]
    groups = {"couch": ["sofa bed"]}
    assert score(lines, protocol=protocol(groups)).metrics["f1/0.50/f1"] == 0.0
    metrics = score(lines, protocol=protocol(groups, "coordexp")).metrics
    assert metrics["f1/0.50/f1"] == 1.0


def test_repeats_are_found_by_what_was_written(score, line, rec, text):
    """'sofa' and 'couch' on one box are not an exact repeat: the model wrote two things."""
    answer = text(rec("sofa", [0, 0, 100, 100]), rec("couch", [0, 0, 100, 100]))
    metrics = score([line(answer, [box("couch")])], protocol=protocol(COUCH)).metrics
    assert metrics["dup/exact_objects"] == 0
    assert (metrics["f1/0.50/tp"], metrics["f1/0.50/fp"]) == (1, 1)


NAMES = ["couch", "sofa", "settee", "bed", "cot", "tree", "Sofa", "shrub"]
GROUPS = {"couch": ["sofa", "settee"], "bed": ["cot"], "bush": ["shrub"]}
CANONICAL = {"sofa": "couch", "settee": "couch", "Sofa": "couch", "cot": "bed", "shrub": "bush"}
objects = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 4), st.integers(1, 4)), max_size=5
)


class Lines(Run):
    """A run of lines in memory."""

    def rollouts(self):
        frame = frame_named("unit-1000")
        return iter([rollout_from_json(line, frame) for line in self.meta["lines"]])


def scored(images, rename, **options):
    """Score images of (ground truth, predictions) with all names renamed."""
    lines = []
    for number, (truth, found) in enumerate(images):
        records = [
            f'{{"desc": {json.dumps(rename(name))}, "bbox_2d": '
            f"[<|coord_{100 * x}|>, <|coord_0|>, <|coord_{100 * (x + w)}|>, <|coord_500|>]}}"
            for name, x, w in found
        ]
        lines.append(
            {
                "id": str(number),
                "width": 1000,
                "height": 1000,
                "gt": [
                    {"desc": rename(name), "bbox_2d": [100 * x, 0, 100 * (x + w), 500]}
                    for name, x, w in truth
                ],
                "text": '{"objects": [' + ", ".join(records) + "]}",
            }
        )
    meta = {"lines": lines, "frame": "unit-1000"}
    return score_run(Lines(path=None, rollouts_path=None, meta=meta), **options)


@given(st.lists(st.tuples(objects, objects), min_size=1, max_size=4), st.booleans())
def test_synonyms_score_as_if_everything_had_been_renamed(images, listed):
    """F1, AP and counts equal those of a run in which every name is written canonically."""
    names = ("couch", "bed", "bush", "tree")
    classes = [Category(id=n, name=name) for n, name in enumerate(names, 1)] if listed else None
    by_hand = scored(images, lambda name: CANONICAL.get(name, name), categories=classes)
    by_rule = scored(images, str, categories=classes, protocol=protocol(GROUPS))
    assert quality(by_rule) == pytest.approx(quality(by_hand))
    assert sum(row.count for row in by_rule.names) == by_rule.metrics["count/pred"]
    unknown = sum(row.count for row in by_rule.names if row.class_name is None)
    assert unknown == by_rule.metrics["count/unknown_class"]


def test_other_samples_and_attribution_know_the_synonyms(score, line, rec, text):
    """The oracle over samples and the oracle of errors judge names as the headline does."""
    gt = [box("couch"), box("couch", 200)]
    lines = [
        line(text(rec("couch", [0, 0, 100, 100])), gt),
        line(text(rec("settee", [200, 0, 300, 100])), gt, sample_index=1),
    ]
    result = score(lines, protocol=protocol(COUCH))
    assert result.metrics["oracle/0.50/recall_union"] == 1.0
    listed = [(row.name, row.class_name, row.by, row.count) for row in result.names]
    assert listed == [("couch", "couch", "exact", 1), ("settee", "couch", "synonym", 0)]
    by_name = {}
    for name in ("couch", "sofa"):  # a dropped record, an unmatched box, and one beside
        answer = text(
            rec(name, [200, 0, 300, 100, 100]), rec(name, [0, 0, 90, 70]), rec(name, [5, 5, 9, 9])
        )
        result = score([line(answer, gt)], protocol=protocol(COUCH))
        by_name[name] = attribute(result).to_json()
    assert by_name["sofa"] == by_name["couch"]
    plain = attribute(score([line(answer, gt)])).to_json()
    assert plain != by_name["couch"]


def test_the_score_holds_all_that_made_it(score, sofas, tmp_path):
    """The protocol names the groups, and name_mapping.json lists every name; exact has neither."""
    result = score(sofas, protocol=protocol(COUCH))
    write_score(result, tmp_path / "s")
    stored = json.loads((tmp_path / "s/metrics.json").read_text())
    assert stored["protocol"]["names"]["synonym"]["groups"] == {"couch": ["settee", "sofa"]}
    mapping = json.loads((tmp_path / "s/name_mapping.json").read_text())
    assert mapping["matching"] == stored["protocol"]["names"]
    assert mapping["names"][1] == {
        "name": "sofa",
        "class": "couch",
        "by": "synonym",
        "similarity": None,
        "count": 1,
        "ground_truth": 0,
    }
    write_score(score(sofas), tmp_path / "s")
    assert not (tmp_path / "s/name_mapping.json").exists()
    assert "names" not in json.loads((tmp_path / "s/metrics.json").read_text())["protocol"]


def test_the_hash_is_of_the_content(score):
    """Order and repeats do not change it, other synonyms do."""
    one = SynonymNames({"a": ["x", "y"], "b": ["z"]}).sha256
    assert one == SynonymNames({"b": ["z"], "a": ["y", "x", "x"]}).sha256
    assert one != SynonymNames({"a": ["x"], "b": ["z", "y"]}).sha256


def test_names_that_are_no_unicode_can_be_listed(score, line, tmp_path):
    """A lone surrogate in a description does not break the list of names."""
    text = '{"objects": [{"desc": "\ud800", "bbox_2d": [<|coord_0|>, <|coord_0|>, <|coord_9|>, <|coord_9|>]}]}'
    result = score([line(text, [box("couch")])], protocol=protocol(COUCH))
    write_score(result, tmp_path / "s")
    (row,) = json.loads((tmp_path / "s/name_mapping.json").read_text())["names"]
    assert len(row["name"]) == 1
    assert (row["class"], row["count"]) == (None, 1)


def idle(groups, classes, *, lines=None, rule="nfkc_casefold"):
    """What is said of those groups where those are the classes."""
    mapper = SynonymNames(groups, source="s.toml", lines=lines)
    rules = replace(PROTOCOLS["coordeval"], names=NameMatching((mapper,)), name_rule=rule)
    universe = build_universe([Category(id=n, name=c) for n, c in enumerate(classes, 1)], ())
    return idle_groups(rules, universe)


def test_a_group_without_a_class_is_told_with_its_line():
    """One sentence names file, group and line; groups with a class, by any name, are not in it."""
    groups = {"couch": ["sofa"], "bed": ["cot"], "Chair": ["seat"]}
    lines = {"couch": 2, "bed": 7, "Chair": 9}
    assert idle(groups, ["Sofa", "chair"], lines=lines) == (
        "s.toml: a group of synonyms holds no class of the dataset: 'bed' (line 7)",
    )
    assert idle(groups, ["sofa", "COT", "seat"], lines=lines) == ()
    assert idle(groups, ["x"]) == (
        "s.toml: 3 groups of synonyms hold no class of the dataset: 'couch', 'bed', 'Chair'",
    )


def test_many_idle_groups_are_one_sentence():
    """A file for another data set does not fill the screen."""
    (sentence,) = idle({f"n{k}": ["x" * 99 + str(k)] for k in range(500)}, ["cat"])
    assert "500 groups" in sentence
    assert sentence.endswith("'n0', 'n1', 'n2', 'n3', 'n4' and 495 more")


def test_nothing_is_said_where_there_is_nothing_to_say():
    """Equal names only, and data without any class, are no reason for a warning."""
    universe = build_universe([Category(id=1, name="cat")], ())
    assert idle_groups(PROTOCOLS["coordeval"], universe) == ()
    assert idle_groups(None, universe) == ()
    assert idle(COUCH, []) == ()
