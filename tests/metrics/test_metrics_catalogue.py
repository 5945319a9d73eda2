"""The catalogue: what keys mean, and the docs table made from it."""

from __future__ import annotations

from coordeval.metrics.catalogue import CATALOGUE, catalogue_markdown, describe
from coordeval.metrics.classes import build_universe, normalise_desc
from coordeval.parsers.reasons import DROP_REASONS
from coordeval.records import Category


def test_descriptions_are_filled_in():
    """A concrete key gets its threshold, its reason and its aliases."""
    info = describe("f1/0.50/f1")
    assert info is not None
    assert "at IoU 0.50" in info.meaning
    assert (info.better, info.unit, info.low, info.high) == ("higher", "ratio", 0.0, 1.0)
    assert "f1ish@0.50_f1_full_micro" in info.aliases
    mean = describe("f1_loc/mean/recall")
    assert mean is not None
    assert "mean over IoU .50:.95" in mean.meaning
    dropped = describe("parse/dropped/wrong_arity")
    assert dropped is not None
    assert DROP_REASONS["wrong_arity"] in dropped.meaning
    assert (
        "eval_rollout/parse_dropped_invalid" in (describe("parse/dropped_invalid") or info).aliases
    )


def test_unknown_keys_have_no_description():
    """A misspelt key is not silently taken for a family."""
    for key in ("f1/0.5/f1", "f1/0.50", "coco/ap", "parse/issue/", "nonsense"):
        assert describe(key) is None


def test_notes_have_no_better_direction():
    """What does not spoil conformance is neither good nor bad."""
    note, issue = describe("parse/issue/nonstandard_spacing"), describe("parse/issue/truncated")
    assert note is not None
    assert issue is not None
    assert (note.better, issue.better) == ("none", "lower")


def test_the_docs_table_has_a_row_per_entry():
    """Every entry is on the page, once."""
    assert len({info.key for info in CATALOGUE}) == len(CATALOGUE)
    page = catalogue_markdown()
    assert page.count("\n") == len(CATALOGUE) + 2
    assert all(f"| `{info.key}` |" in page for info in CATALOGUE)


def test_normalised_descriptions():
    """NFKC, casefold, spaces collapsed and stripped."""
    assert normalise_desc("  ＴＲＡＦＦＩＣ\t Light ") == "traffic light"
    assert normalise_desc("STRASSE") == normalise_desc("straße")


def test_the_universe_is_the_list_or_the_ground_truth():
    """A given list keeps its ids and gains what it lacks; else distinct names count from 1."""
    given = build_universe(
        [Category(id=7, name="Cat"), Category(id=3, name="dog")], ["cat", "bird", "BIRD"]
    )
    assert given.names == ("cat", "dog", "bird")
    assert (given.ids, given.added, given.source) == ((7, 3, 8), 1, "dataset")
    from_gt = build_universe(None, ["Dog", "cat", "dog"])
    assert (from_gt.names, from_gt.ids) == (("cat", "dog"), (1, 2))
    kept = build_universe(None, ["Dog", "cat"], gt_category_ids={"dog": 18, "cat": 17})
    assert kept.ids == (17, 18)
    assert build_universe(None, []).names == ()
