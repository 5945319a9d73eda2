"""The matcher against brute force over all assignments."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.metrics import matching
from coordeval.metrics.iou import Edges
from coordeval.metrics.matching import (
    UNMATCHED,
    match_greedy,
    match_optimal,
    prefer_first_copies,
)


def edges_of(pairs):
    """Edges from {(pred, gt): value}."""
    return Edges(
        pred=np.array([p for p, _ in pairs], dtype=np.int64),
        gt=np.array([g for _, g in pairs], dtype=np.int64),
        value=np.array(list(pairs.values()), dtype=np.float64),
    )


def best_by_brute_force(pairs, num_pred, num_gt):
    """(number of pairs, IoU sum) of the best assignment, trying every one."""
    best = (0, 0.0)
    slots = [*range(num_gt), *([None] * num_pred)]
    for choice in set(permutations(slots, num_pred)):
        chosen = [(p, g) for p, g in enumerate(choice) if g is not None]
        if all(pair in pairs for pair in chosen):
            best = max(best, (len(chosen), sum(pairs[pair] for pair in chosen)))
    return best


def outcome(partner, pairs):
    """(number of pairs, IoU sum) of an answer, checking that it is a matching."""
    chosen = [(p, int(g)) for p, g in enumerate(partner) if g != UNMATCHED]
    assert len({g for _, g in chosen}) == len(chosen)
    assert all(pair in pairs for pair in chosen)
    return len(chosen), sum(pairs[pair] for pair in chosen)


problems = st.integers(1, 4).flatmap(
    lambda num_pred: st.integers(1, 4).flatmap(
        lambda num_gt: st.tuples(
            st.just(num_pred),
            st.just(num_gt),
            st.dictionaries(
                st.tuples(st.integers(0, num_pred - 1), st.integers(0, num_gt - 1)),
                st.sampled_from([0.5, 0.55, 0.6, 0.75, 0.9, 0.999, 1.0]),
            ),
        )
    )
)


@pytest.mark.parametrize("dense_cells", [4_000_000, 0], ids=["table", "sparse"])
@settings(max_examples=120, deadline=None)
@given(problem=problems)
def test_optimal_matching_equals_brute_force(dense_cells, problem):
    """The number of pairs and the IoU sum are those of the best of all assignments."""
    num_pred, num_gt, pairs = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "MAX_DENSE_CELLS", dense_cells)
        partner = match_optimal(edges_of(pairs), num_pred, num_gt)
    count, total = outcome(partner, pairs)
    best_count, best_total = best_by_brute_force(pairs, num_pred, num_gt)
    assert count == best_count
    assert total == pytest.approx(best_total, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(problems, min_size=2, max_size=5))
def test_components_do_not_disturb_each_other(parts):
    """Many problems laid side by side give the sum of their separate best answers."""
    pairs, pred_at, gt_at, expected = {}, 0, 0, [0, 0.0]
    for num_pred, num_gt, part in parts:
        pairs |= {(p + pred_at, g + gt_at): value for (p, g), value in part.items()}
        pred_at, gt_at = pred_at + num_pred, gt_at + num_gt
        best = best_by_brute_force(part, num_pred, num_gt)
        expected = [expected[0] + best[0], expected[1] + best[1]]
    count, total = outcome(match_optimal(edges_of(pairs), pred_at, gt_at), pairs)
    assert (count, total) == (expected[0], pytest.approx(expected[1], abs=1e-9))


def test_more_pairs_win_over_a_larger_iou():
    """Two pairs of .5 are taken instead of one pair of 1.0."""
    pairs = {(0, 0): 1.0, (0, 1): 0.5, (1, 0): 0.5}
    assert match_optimal(edges_of(pairs), 2, 2).tolist() == [1, 0]
    assert match_greedy(edges_of(pairs), 2, 2).tolist() == [0, UNMATCHED]


def test_a_star_takes_its_best_edge_and_the_earliest_of_equals():
    """Several predictions on one object: the largest IoU, then the earliest prediction."""
    assert match_optimal(edges_of({(0, 0): 0.6, (1, 0): 0.8, (2, 0): 0.8}), 3, 1).tolist() == [
        UNMATCHED,
        0,
        UNMATCHED,
    ]
    assert match_optimal(edges_of({(0, 0): 0.6, (0, 1): 0.9}), 1, 2).tolist() == [1]


def test_first_copies_hold_the_partners():
    """Among identical predictions the earliest are the right ones; others stay as they are."""
    partner = np.array([UNMATCHED, 5, UNMATCHED, 7, 2])
    group = np.array([0, 1, 0, 0, 4])
    assert prefer_first_copies(partner, group).tolist() == [7, 5, UNMATCHED, UNMATCHED, 2]


def test_no_edges_match_nothing():
    """Empty input is a legitimate problem."""
    assert match_optimal(edges_of({}), 3, 0).tolist() == [UNMATCHED] * 3
    assert match_greedy(edges_of({}), 0, 2).tolist() == []
