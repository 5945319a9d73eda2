"""Matching: the least total cost of all partial matchings, gates, classes, crowds, ties."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.training.stage2.config import MatchingConfig
from coordeval.training.stage2.matching import UNMATCHED, assign, match_objects
from coordeval.training.stage2.overlap import BinObject, covered_matrix, iou_matrix


def box(desc, *bins):
    return BinObject(desc, "bbox_2d", bins)


def poly(desc, *bins):
    return BinObject(desc, "poly", bins)


def brute_force(cost, fp_cost, fn_cost):
    """The least total cost over every partial matching, by looking at all of them."""
    rows, columns = cost.shape
    best = float("inf")
    for size in range(min(rows, columns) + 1):
        for chosen in combinations(range(rows), size):
            for held in permutations(range(columns), size):
                pairs = sum(cost[row, column] for row, column in zip(chosen, held, strict=True))
                total = pairs + fp_cost * (rows - size) + fn_cost * (columns - size)
                best = min(best, total)
    return best


def total_of(partner, cost, fp_cost, fn_cost):
    held = [column for column in partner if column != UNMATCHED]
    assert len(set(held)) == len(held)
    pairs = sum(cost[row, column] for row, column in enumerate(partner) if column != UNMATCHED)
    rows, columns = cost.shape
    return pairs + fp_cost * (rows - len(held)) + fn_cost * (columns - len(held))


costs = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0, float("inf")]) | st.floats(0, 1)


@settings(max_examples=150)
@given(st.data(), st.integers(0, 4), st.integers(0, 4))
def test_the_square_assignment_has_the_least_cost_of_all_partial_matchings(data, rows, columns):
    """Equal to trying every partial matching, impossible pairs and cheap dummies included."""
    cost = np.array([[data.draw(costs) for _ in range(columns)] for _ in range(rows)]).reshape(
        rows, columns
    )
    fp_cost, fn_cost = data.draw(st.sampled_from([(1.0, 1.2), (0.0, 0.0), (0.3, 0.1), (0.5, 2.0)]))
    partner = assign(cost, fp_cost=fp_cost, fn_cost=fn_cost)
    assert total_of(partner, cost, fp_cost, fn_cost) == pytest.approx(
        brute_force(cost, fp_cost, fn_cost), abs=1e-12
    )
    taken = [(row, column) for row, column in enumerate(partner) if column != UNMATCHED]
    assert all(cost[pair] < fp_cost + fn_cost for pair in taken)


sides = st.integers(0, 40).map(lambda n: 25 * n)


@st.composite
def boxes(draw):
    x, y = draw(sides), draw(sides)
    desc = draw(st.sampled_from(["a", "b", "A "]))
    return box(desc, x, y, x + 25 * draw(st.integers(1, 8)), y + 25 * draw(st.integers(1, 8)))


def reference_iou(one, other):
    """IoU of two boxes, written out."""
    (a, b, c, d), (e, f, g, h) = one.bins, other.bins
    inter = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return inter / ((c - a) * (d - b) + (g - e) * (h - f) - inter)


@settings(max_examples=150)
@given(
    st.lists(boxes(), max_size=4),
    st.lists(boxes(), max_size=4),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 0.5]),
)
def test_matching_is_the_cheapest_one_that_gate_and_classes_allow(written, true, aware, gate):
    """Total cost against brute force on IoUs written out; counts of pairs that the gate refused."""
    config = MatchingConfig(gate=gate, class_aware=aware)
    found = match_objects(written, true, config)
    cost = np.full((len(written), len(true)), np.inf)
    refused = 0
    for row, one in enumerate(written):
        for column, other in enumerate(true):
            iou = reference_iou(one, other)
            assert found.iou[row, column] == pytest.approx(iou, abs=1e-12)
            if aware and one.desc.strip().lower() != other.desc.strip().lower():
                continue
            if iou >= gate:
                cost[row, column] = 1 - iou
            else:
                refused += iou > 0
    assert total_of(found.partner, cost, 1.0, 1.2) == pytest.approx(
        brute_force(cost, 1.0, 1.2), abs=1e-6
    )
    assert found.gating_rejections == refused
    assert match_objects(written, true, config).partner == found.partner


def test_a_pair_is_made_only_where_it_costs_less_than_leaving_both():
    """1 - IoU against fp_cost + fn_cost, the gate aside."""
    written, true = [box("a", 0, 0, 100, 100)], [box("a", 0, 0, 100, 200)]
    config = MatchingConfig(gate=0.2, fp_cost=0.2, fn_cost=0.29)
    assert match_objects(written, true, config).partner == (UNMATCHED,)
    config = MatchingConfig(gate=0.2, fp_cost=0.2, fn_cost=0.31)
    assert match_objects(written, true, config).partner == (0,)


def test_the_gate_itself_is_enough():
    """An IoU equal to the gate is a possible pair."""
    written, true = [box("a", 0, 0, 100, 100)], [box("a", 0, 0, 100, 200)]
    assert match_objects(written, true, MatchingConfig(gate=0.5)).partner == (0,)
    above = match_objects(written, true, MatchingConfig(gate=0.5001))
    assert (above.partner, above.gating_rejections) == ((UNMATCHED,), 1)


def test_ties_go_to_the_first_and_to_the_same_name():
    """Equal copies: the first one is matched; equal true boxes: the one of its own name."""
    one = box("a", 0, 0, 100, 100)
    assert match_objects([one] * 5, [one], MatchingConfig()).partner == (0, *[UNMATCHED] * 4)
    assert match_objects([one] * 3, [one] * 2, MatchingConfig()).partner == (0, 1, UNMATCHED)
    assert match_objects([one], [one] * 3, MatchingConfig()).partner == (0,)
    other = one._replace(desc="b")
    assert match_objects([one], [other, one], MatchingConfig()).partner == (1,)
    assert match_objects([other, one], [one, other], MatchingConfig()).partner == (1, 0)
    left, right = box("a", 0, 0, 90, 100), box("a", 10, 0, 100, 100)
    assert match_objects([right, left], [one], MatchingConfig()).partner == (0, UNMATCHED)
    assert match_objects([left, right], [one], MatchingConfig()).partner == (0, UNMATCHED)
    crowd_of = [one] * 300
    assert match_objects(crowd_of, [one], MatchingConfig()).partner[0] == 0


@given(st.lists(st.sampled_from("ABC"), max_size=7), st.lists(st.sampled_from("ABC"), max_size=7))
def test_equal_objects_are_matched_in_their_order(written, true):
    """Among copies the first ones hold partners, rising, and the first true copies are taken."""
    kinds = {"A": (0, 0, 100, 100), "B": (0, 0, 100, 90), "C": (500, 500, 600, 600)}
    found = match_objects(
        [box("x", *kinds[one]) for one in written],
        [box("x", *kinds[one]) for one in true],
        MatchingConfig(),
    ).partner
    for kind in kinds:
        held = [column for column, one in zip(found, written, strict=True) if one == kind]
        matched = [column for column in held if column != UNMATCHED]
        assert held == sorted(matched) + [UNMATCHED] * (len(held) - len(matched))
        copies = [column for column, one in enumerate(true) if one == kind]
        taken = sorted(column for column in found if column in copies)
        assert taken == copies[: len(taken)]


def test_names_count_only_where_asked():
    """Without classes a dog may find a cat, with them it does not; names in normal form."""
    written, true = [box(" Dog", 0, 0, 100, 100)], [box("cat", 0, 0, 100, 100)]
    assert match_objects(written, true, MatchingConfig()).partner == (0,)
    aware = MatchingConfig(class_aware=True)
    assert match_objects(written, true, aware).partner == (UNMATCHED,)
    assert match_objects(written, [box("dog", 0, 0, 100, 100)], aware).partner == (0,)


def test_what_lies_on_a_crowd_is_neither_right_nor_wrong():
    """Intersection over its own area, unmatched ones alone; of one class where classes count."""
    crowd = [box("person", 0, 0, 1000, 500)]
    written = [
        box("person", 0, 0, 100, 100),
        box("dog", 0, 400, 100, 600),
        box("cat", 0, 460, 9, 560),
    ]
    assert match_objects(written, [], MatchingConfig(), crowd=crowd).on_crowd == (True, True, False)
    aware = MatchingConfig(class_aware=True)
    assert match_objects(written, [], aware, crowd=crowd).on_crowd == (True, False, False)
    true = [box("person", 0, 0, 100, 100)]
    assert match_objects(written, true, MatchingConfig(), crowd=crowd).on_crowd == (
        False,
        True,
        False,
    )


def test_outlines_meet_by_their_masks():
    """A triangle is half of its hull; masks against closed forms, in every mixture of kinds."""
    square = box("x", 100, 100, 500, 500)
    triangle = poly("x", 100, 100, 500, 100, 100, 500)
    outline = poly("x", 100, 100, 500, 100, 500, 500, 100, 500)
    iou = iou_matrix([square, triangle, outline], [square, triangle, outline], mask_size=256)
    reference = [[1, 0.5, 1], [0.5, 1, 0.5], [1, 0.5, 1]]
    assert np.abs(iou - reference).max() < 0.02
    assert (np.diag(iou) == 1).all()
    other = poly("x", 500, 500, 500, 100, 100, 500)
    assert iou_matrix([triangle], [other], mask_size=256)[0, 0] < 0.02
    share = covered_matrix([triangle], [box("x", 100, 100, 300, 300)], mask_size=256)[0, 0]
    assert share == pytest.approx(0.5, abs=0.02)


def test_small_outlines_are_not_lost_between_the_cells():
    """Shapes of a few bins, far less than a cell, still meet by their true overlap."""
    small = poly("x", 100, 100, 104, 100, 104, 104, 100, 104)
    shifted = poly("x", 102, 100, 106, 100, 106, 104, 102, 104)
    iou = iou_matrix([small], [small, shifted, box("x", 100, 100, 102, 104)], mask_size=256)[0]
    assert iou[0] == 1
    assert iou[1] == pytest.approx(1 / 3, abs=0.03)
    assert iou[2] == pytest.approx(1 / 2, abs=0.03)


def test_lines_meet_as_bands():
    """The same line matches itself, a parallel one far away does not, a near one partly."""
    line = BinObject("x", "line", (100, 100, 800, 100))
    near, far = line._replace(bins=(100, 110, 800, 110)), line._replace(bins=(100, 300, 800, 300))
    iou = iou_matrix([line], [line, near, far], mask_size=256)[0]
    assert iou[0] == 1
    assert 0.15 < iou[1] < 0.5
    assert iou[2] == 0


def test_nothing_against_something_leaves_it_unmatched():
    """Empty sides give empty or unmatched results, never an error."""
    one = box("a", 0, 0, 10, 10)
    assert match_objects([], [], MatchingConfig()).partner == ()
    assert match_objects([one], [], MatchingConfig()).partner == (UNMATCHED,)
    assert match_objects([], [one], MatchingConfig(), crowd=[one]).partner == ()


def test_names_and_equal_shapes_are_told_as_pair_by_pair():
    """One name and one shape are found as a comparison of every pair would find them."""
    from coordeval.training.stage2.matching import _one_name

    shapes = [box("Cat", 1, 1, 9, 9), box("cat ", 1, 1, 9, 9), box("dog", 5, 5, 5, 9)]
    line = BinObject("cat", "line", (1, 1, 9, 9))
    first, second = [*shapes, line, line], [line, *shapes, box("cat", 5, 5, 5, 9)]
    names = [
        [one.desc.strip().lower() == other.desc.strip().lower() for other in second]
        for one in first
    ]
    assert _one_name(first, second).tolist() == names
    iou = iou_matrix(first, second, mask_size=64)
    equal = np.array([[one[1:] == other[1:] for other in second] for one in first])
    assert (iou[equal] == 1.0).all()
    assert equal.sum() == 4 + 2 + 2
    assert _one_name([], second).shape == (0, len(second))
    assert _one_name(first, []).shape == (len(first), 0)
