"""Contributions, worst parts and slices: they add up to the change that they explain."""

from __future__ import annotations

import numpy as np
import pytest
from comparing import answer, line, make_run, random_lines, record
from hypothesis import given
from hypothesis import strategies as st

from coordeval.metrics.score import score_run
from coordeval.stats.bootstrap import draw_weights
from coordeval.stats.image_table import ImageTable
from coordeval.stats.movers import contributions, find_movers
from coordeval.stats.recipe_book import recipes_of
from coordeval.stats.slice_changes import slice_changes
from coordeval.stats.slices import slice_counts


class Columns:
    """Stands in for an ImageTable: two columns."""

    def __init__(self, above, below):
        self.columns = {"n": np.array(above, dtype=float), "d": np.array(below, dtype=float)}

    def __getitem__(self, name):
        return self.columns[name]


def ratio():
    from coordeval.stats.recipes import Ratio

    return Ratio({"n": 1.0}, {"d": 1.0})


SIDES = st.lists(
    st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=20
)


@given(SIDES)
def test_contributions_sum_to_the_change_and_change_sign_when_swapped(rows):
    """For any two runs the parts add up to R_B - R_A, and swapping only turns the signs."""
    na, nb, da, db = zip(*rows, strict=True)
    a, b = Columns(na, da), Columns(nb, db)
    parts = contributions(a, b, ratio())
    assert parts.sum() == pytest.approx(sum(nb) / sum(db) - sum(na) / sum(da), abs=1e-12)
    np.testing.assert_allclose(contributions(b, a, ratio()), -parts, atol=1e-12)


def test_an_image_that_did_not_change_contributes_nothing_where_all_weigh_the_same():
    """Same numbers, same weights: no part in the change."""
    a, b = Columns([1, 1, 1], [1, 1, 1]), Columns([1, 0, 1], [1, 1, 1])
    assert contributions(a, b, ratio()) == pytest.approx([0, -1 / 3, 0])


def test_one_outlier_carries_all_of_the_change():
    """Closed form: 1 of 100 images loses everything; without it nothing has changed."""
    a = Columns([1] * 100, [1] * 100)
    b = Columns([0] + [1] * 99, [1] * 100)
    movers = find_movers("x", [str(k) for k in range(100)], a, b, ratio(), limit=5)
    first = movers.worst[0]
    assert (first.percent, first.images, first.share) == (1, 1, pytest.approx(1.0))
    assert (first.a_without, first.b_without, first.delta_without) == (1.0, 1.0, 0.0)
    assert (movers.num_up, movers.num_down, movers.down[0].id) == (0, 1, "0")


def test_shares_grow_with_the_part_and_no_change_has_none():
    """1 %, 5 % and 10 % of 40 images are 1, 2 and 4; without a change there is no share."""
    rng = np.random.default_rng(0)
    a = Columns([5] * 40, [10] * 40)
    b = Columns(rng.integers(0, 5, 40), [10] * 40)
    worst = find_movers("x", [str(k) for k in range(40)], a, b, ratio(), limit=5).worst
    assert [part.images for part in worst] == [1, 2, 4]
    assert worst[0].share < worst[1].share < worst[2].share
    same = find_movers("x", [str(k) for k in range(40)], a, a, ratio(), limit=5)
    assert [part.share for part in same.worst] == [None] * 3


def test_a_side_without_a_value_has_no_movers():
    """No objects and no predictions in one run: there is no change to split."""
    a, b = Columns([0, 0], [0, 0]), Columns([1, 0], [1, 1])
    assert find_movers("x", ["p", "q"], a, b, ratio(), limit=5) is None


def test_slices_add_up_to_the_run(tmp_path):
    """Right, wrong and missed objects of every way of slicing sum to the run's counts."""
    result = score_run(make_run(tmp_path / "a", random_lines(30, seed=1)))
    counts = [result.metrics[f"f1/0.50/{leaf}"] for leaf in ("tp", "fp", "fn")]
    slices = slice_counts(result)
    assert [part.kind for part in slices] == ["objects", "size", "crowding", "class"]
    for part in slices:
        assert part.right.sum() == counts[0] and part.missed.sum() == counts[2]
        if part.wrong is not None:
            assert part.wrong.sum() == counts[1]


def test_class_slices_are_the_per_class_table(tmp_path):
    """F1 per class equals the score's own table, unknown names in their own row."""
    result = score_run(make_run(tmp_path / "a", random_lines(30, seed=1)))
    other = score_run(make_run(tmp_path / "b", random_lines(30, seed=2)))
    changes = slice_changes(slice_counts(result), slice_counts(other), draw_weights(30, 200, 0))
    by_name = {part.name: part for part in changes if part.kind == "class"}
    for scored, side in ((result, "a"), (other, "b")):
        for row in scored.per_class.to_dict("records"):
            expected = None if row["f1@0.50"] is None else float(row["f1@0.50"])
            assert getattr(by_name[row["class"]], side) == pytest.approx(expected)
    assert all(part.low <= part.delta <= part.high for part in by_name.values() if part.low)


def test_objects_fall_into_their_slices(tmp_path):
    """Sizes at 32 and 96 pixels, neighbours by overlap, images by their number of objects."""
    gt = [("cat", 0, 0, 31, 31), ("cat", 100, 100, 180, 180), ("dog", 110, 100, 300, 180)]
    text = answer(record("cat", (0, 0, 31, 31)))
    result = score_run(make_run(tmp_path / "a", [line("x", gt, text), line("y", [], answer())]))
    objects, size, crowding, _ = slice_counts(result)
    named = dict(zip(objects.names, objects.missed.sum(axis=0), strict=True))
    assert named["2-4"] == 2
    assert size.right.sum(axis=0).tolist() == [1, 0, 0]
    assert size.missed.sum(axis=0).tolist() == [0, 1, 1]
    assert crowding.right.sum(axis=0).tolist() == [1, 0, 0]
    assert crowding.missed.sum(axis=0).tolist() == [0, 0, 2]


def test_movers_of_a_run_name_the_images_that_changed(tmp_path):
    """The spoilt image is the one that moved, down by the whole change."""
    lines = random_lines(20, seed=1)
    victim = next(number for number, item in enumerate(lines) if len(item["gt"]) > 3)
    other = [item | {"text": ""} if k == victim else item for k, item in enumerate(lines)]
    results = [score_run(make_run(tmp_path / n, ls)) for n, ls in (("a", lines), ("b", other))]
    tables = [ImageTable(result) for result in results]
    recipe = recipes_of(results[0], tables[0])["f1/0.50/f1"]
    ids = [item["id"] for item in lines]
    movers = find_movers("f1/0.50/f1", ids, *tables, recipe, limit=3)
    assert movers.down[0].id == ids[victim]
    change = results[1].metrics["f1/0.50/f1"] - results[0].metrics["f1/0.50/f1"]
    assert contributions(*tables, recipe).sum() == pytest.approx(change)
