"""Names by sentence embeddings: nearest class, threshold, ties, and what is stored."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.errors import ConfigError, MissingExtraError, NotComparable
from coordeval.metrics.names import sentence_model, stored
from coordeval.metrics.names.embedding import EmbeddingNames
from coordeval.metrics.names.matching import NameMatching
from coordeval.metrics.names.stored import names_from_json, names_text
from coordeval.metrics.names.synonyms import SynonymNames
from coordeval.metrics.protocols import PROTOCOLS

VECTORS = {
    "couch": (1.0, 0.0, 0.0),
    "dog": (0.0, 1.0, 0.0),
    "sofa": (3.0, 4.0, 0.0),  # cosines .6 and .8, whatever its length
    "settee": (0.8, 0.6, 0.0),
    "between": (1.0, 1.0, 0.0),
    "far": (0.1, 0.0, 1.0),
    "nothing": (0.0, 0.0, 0.0),
}


def embed(texts):
    """A stand-in for a model: vectors by name."""
    return [VECTORS[text] for text in texts]


def mapper(threshold=0.6, vectors=embed):
    """The mapper of the stand-in."""
    return EmbeddingNames(vectors, model="stand-in", sha256="ab" * 32, threshold=threshold)


def protocol(*mappers, name="coordeval"):
    """A protocol with those ways of matching names."""
    return replace(PROTOCOLS[name], names=NameMatching(tuple(mappers)))


def match(names, threshold=0.6):
    """(class, similarity) per name, against couch and dog."""
    found = mapper(threshold).match(names, ["couch", "dog"], str)
    return {name: tuple(value) for name, value in found.items()}


def test_the_nearest_class_wins_where_it_is_near_enough():
    """Cosines by hand; the threshold itself is enough, less is not, a zero vector is like nothing."""
    assert match(list(VECTORS)[2:]) == {
        "sofa": ("dog", 0.8),
        "settee": ("couch", 0.8),
        "between": ("couch", pytest.approx(0.707107)),  # a tie: the first class
    }
    assert match(["sofa"], 0.8) == {"sofa": ("dog", 0.8)}
    assert match(["sofa"], 0.800001) == {}
    assert match([]) == {}
    assert mapper().match(["sofa"], [], str) == {}


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40), st.integers(1, 12))
def test_every_match_is_the_largest_cosine(seeds, num_classes):
    """Against a loop in plain numbers: the class of the largest cosine, if that is 0.6 or more."""
    vectors = {f"n{seed}": np.random.default_rng(seed).normal(size=3).tolist() for seed in seeds}
    names = list(vectors)
    classes, rest = names[:num_classes], names[num_classes:]
    wanted = EmbeddingNames(lambda texts: [vectors[text] for text in texts], model="m")
    found = wanted.match(rest, classes, str)
    for name in rest:
        cosines = [
            sum(a * b for a, b in zip(vectors[name], vectors[other], strict=True))
            / (sum(a * a for a in vectors[name]) * sum(b * b for b in vectors[other])) ** 0.5
            for other in classes
        ]
        best = max(cosines)
        assert (name in found) == (round(best, 6) >= 0.6)
        if name in found:
            assert found[name].similarity == pytest.approx(best, abs=1e-6)
            assert cosines[classes.index(found[name].class_name)] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    """Above 0, at most 1."""
    with pytest.raises(ConfigError, match="threshold"):
        mapper(threshold)


@pytest.mark.parametrize(
    "broken",
    [
        lambda texts: [[1.0, 2.0]],
        lambda texts: [1.0] * len(texts),
        lambda texts: [[float("nan")]] * len(texts),
        lambda texts: [["x"]] * len(texts),
        lambda texts: [[1.0]] + [[1.0, 2.0]] * (len(texts) - 1),
        lambda texts: None,
    ],
)
def test_a_model_that_gives_no_vectors_is_refused(broken):
    """One finite vector per text, or one line that says what came."""
    with pytest.raises(ConfigError, match="stand-in"):
        mapper(vectors=broken).match(["a", "b"], ["c"], str)


@pytest.fixture
def lines(line, rec, text):
    """Ground truth couch and dog; written: settee on the couch, sofa on the dog, far beside."""
    answer = text(
        rec("settee", [0, 0, 100, 100]),
        rec("Sofa", [200, 0, 300, 100]),
        rec("far", [500, 0, 600, 100]),
    )
    gt = [
        {"desc": "couch", "bbox_2d": [0, 0, 100, 100]},
        {"desc": "dog", "bbox_2d": [200, 0, 300, 100]},
    ]
    return [line(answer, gt)]


def test_predictions_find_their_class_and_every_mapping_is_listed(score, lines):
    """Two of three are right; the list says by what, how similar, how often."""
    result = score(lines, protocol=protocol(mapper()))
    assert (result.metrics["f1/0.50/tp"], result.metrics["f1/0.50/fp"]) == (2, 1)
    rows = {row.name: (row.class_name, row.by, row.similarity, row.count) for row in result.names}
    assert rows == {
        "settee": ("couch", "embedding", 0.8, 1),
        "sofa": ("dog", "embedding", 0.8, 1),
        "far": (None, None, None, 1),
    }
    assert result.metrics["count/unknown_class"] == 1
    assert result.metrics["names/embedding"] == 2
    assert result.protocol["names"] == {
        "embedding": {
            "model": "stand-in",
            "sha256": "ab" * 32,
            "threshold": 0.6,
            "backend": None,
        }
    }


def test_synonyms_come_before_embeddings(score, lines):
    """Ways are tried in order: a listed synonym is never asked about."""
    ways = (SynonymNames({"couch": ["sofa"]}), mapper())
    result = score(lines, protocol=protocol(*ways))
    rows = {row.name: (row.class_name, row.by) for row in result.names}
    assert rows["sofa"] == ("couch", "synonym")
    assert rows["settee"] == ("couch", "embedding")
    assert list(result.protocol["names"]) == ["synonym", "embedding"]


def test_ground_truth_is_never_guessed_at(score, lines):
    """A name of the ground truth that the class list lacks stays a class of its own."""
    from coordeval.records import Category

    lines[0]["gt"][1]["desc"] = "settee"
    categories = [Category(id=1, name="couch")]
    result = score(lines, protocol=protocol(mapper()), categories=categories)
    assert result.metrics["count/classes_added"] == 1
    assert "settee" in result.columns.universe.names


def test_coordexp_maps_and_ignores_the_rest(score, lines):
    """With the original's threshold, unmapped names are outside the annotated classes: ignored."""
    metrics = score(lines, protocol=protocol(mapper(), name="coordexp")).metrics
    assert metrics["f1/0.50/precision"] == metrics["f1/0.50/recall"] == 1.0
    plain = score(lines, protocol=PROTOCOLS["coordexp"]).metrics
    assert plain["f1/0.50/recall"] == 0.0


def test_a_stored_matching_is_made_again(monkeypatch):
    """Synonyms from their groups, embeddings from the model of that name if it is still the same."""
    ways = NameMatching((SynonymNames({"b": ["y", "x"], "a": ["z"]}), mapper(0.7)))
    monkeypatch.setattr(stored, "load_sentence_model", lambda name, threshold: mapper(threshold))
    again = names_from_json(ways.to_json(), where="run")
    assert again.to_json() == ways.to_json()
    assert names_text(ways.to_json()).startswith("synonyms (2 classes, ")
    changed = {"embedding": mapper().to_json() | {"sha256": "00"}}
    with pytest.raises(NotComparable, match="another stand-in"):
        names_from_json(changed, where="run")
    assert names_from_json(None, where="run") is None


@pytest.mark.parametrize(
    "raw",
    [{"telepathy": {}}, {"synonym": {}}, {"synonym": {"groups": {"a": 3}}}, {"synonym": 5}, 7],
)
def test_a_stored_matching_that_cannot_be_read_is_not_comparable(raw):
    """Another version's form is no crash."""
    with pytest.raises(NotComparable, match="run: how names were matched cannot be read"):
        names_from_json(raw, where="run")
    assert names_text(raw)


def test_without_the_library_the_extra_is_named(monkeypatch):
    """The message says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"coordeval\[semantic\]"):
        sentence_model.load_sentence_model("all-MiniLM-L6-v2")
