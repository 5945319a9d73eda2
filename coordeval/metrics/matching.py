"""Which prediction belongs to which ground truth: the most pairs, then the largest IoU sum.

Pairs are independent between connected components of the edge graph, and nearly all components
are a single edge or a star (one object against several that touch nothing else), whose answer is
their best edge. Only the rest goes to an exact assignment solver, one component at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.iou import Edges

UNMATCHED = -1
MAX_DENSE_CELLS = 4_000_000


def match_optimal(edges: Edges, num_pred: int, num_gt: int) -> NDArray[np.int64]:
    """Ground-truth row per prediction (or -1), the largest number of pairs, then of IoU.

    `edges` are the allowed pairs (the caller filters by threshold and class), each pair at most
    once. No edges give all -1. Deterministic.
    """
    partner = np.full(num_pred, UNMATCHED, dtype=np.int64)
    pred, gt, value = edges.pred, edges.gt, edges.value
    if not len(pred):
        return partner
    pred_degree = np.bincount(pred, minlength=num_pred)[pred]
    gt_degree = np.bincount(gt, minlength=num_gt)[gt]
    single = (pred_degree == 1) & (gt_degree == 1)
    partner[pred[single]] = gt[single]
    rest = ~single
    gt_star = rest & ~_any_by(gt, pred_degree > 1, num_gt)
    _take_best(partner, pred, gt, value, gt_star, by=gt)
    pred_star = rest & ~gt_star & ~_any_by(pred, gt_degree > 1, num_pred)
    _take_best(partner, pred, gt, value, pred_star, by=pred)
    rest &= ~(gt_star | pred_star)
    if rest.any():
        _solve_components(partner, pred[rest], gt[rest], value[rest])
    return partner


def _any_by(
    group: NDArray[np.int64], flag: NDArray[np.bool_], num_groups: int
) -> NDArray[np.bool_]:
    """Per edge, whether any edge of its group carries the flag."""
    marked = np.zeros(num_groups, dtype=bool)
    marked[group[flag]] = True
    return np.asarray(marked[group], dtype=np.bool_)


def _take_best(
    partner: NDArray[np.int64],
    pred: NDArray[np.int64],
    gt: NDArray[np.int64],
    value: NDArray[np.float64],
    mask: NDArray[np.bool_],
    *,
    by: NDArray[np.int64],
) -> None:
    """In each group of `by`, keep the edge of the largest value (ties: the earliest rows)."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    rows = rows[np.lexsort((gt[rows], pred[rows], -value[rows], by[rows]))]
    group = by[rows]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = group[1:] != group[:-1]
    best = rows[first]
    partner[pred[best]] = gt[best]


def _solve_components(
    partner: NDArray[np.int64],
    pred: NDArray[np.int64],
    gt: NDArray[np.int64],
    value: NDArray[np.float64],
) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pred_rows, pred_node = np.unique(pred, return_inverse=True)
    gt_rows, gt_node = np.unique(gt, return_inverse=True)
    num_nodes = len(pred_rows) + len(gt_rows)
    graph = coo_array(
        (np.ones(len(pred), dtype=np.int8), (pred_node, gt_node + len(pred_rows))),
        shape=(num_nodes, num_nodes),
    )
    num_components, label = connected_components(graph, directed=False)
    pred_local, pred_starts, pred_order = _local_ranks(label[: len(pred_rows)], num_components)
    gt_local, gt_starts, gt_order = _local_ranks(label[len(pred_rows) :], num_components)
    edge_label = label[pred_node]
    edge_order = np.argsort(edge_label, kind="stable")
    bounds = np.searchsorted(edge_label[edge_order], np.arange(num_components + 1)).tolist()
    rows_all = pred_local[pred_node][edge_order]
    cols_all = gt_local[gt_node][edge_order]
    value_all = value[edge_order]
    for component in range(num_components):
        part = slice(bounds[component], bounds[component + 1])
        pred_from, pred_to = pred_starts[component], pred_starts[component + 1]
        gt_from, gt_to = gt_starts[component], gt_starts[component + 1]
        shape = (pred_to - pred_from, gt_to - gt_from)
        # A pair is worth more than all IoU together, so that the number of pairs comes first.
        gain = value_all[part] + (min(shape) + 1.0)
        taken_pred, taken_gt = _assign(rows_all[part], cols_all[part], gain, shape)
        chosen_pred = pred_order[pred_from + taken_pred]
        chosen_gt = gt_order[gt_from + taken_gt]
        partner[pred_rows[chosen_pred]] = gt_rows[chosen_gt]


def _assign(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    gain: NDArray[np.float64],
    shape: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pairs with the largest total gain; leaving a row out gains 0."""
    if shape[0] * shape[1] > MAX_DENSE_CELLS:
        return _assign_sparse(rows, cols, gain, shape)
    from scipy.optimize import linear_sum_assignment

    table = np.zeros(shape)
    table[rows, cols] = gain
    taken_rows, taken_cols = linear_sum_assignment(table, maximize=True)
    real = table[taken_rows, taken_cols] > 0
    return taken_rows[real], taken_cols[real]


def _assign_sparse(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    gain: NDArray[np.float64],
    shape: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same for components too large for a table; every row may also take its own blank."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if shape[0] > shape[1]:
        taken_cols, taken_rows = _assign_sparse(cols, rows, gain, (shape[1], shape[0]))
        return taken_rows, taken_cols
    blanks = np.arange(shape[0])
    graph = csr_array(
        (
            np.concatenate([gain, np.full(shape[0], 1e-9)]),
            (np.concatenate([rows, blanks]), np.concatenate([cols, blanks + shape[1]])),
        ),
        shape=(shape[0], shape[1] + shape[0]),
    )
    matched = min_weight_full_bipartite_matching(graph, maximize=True)
    rows_out, cols_out = (np.asarray(side, dtype=np.int64) for side in matched)
    real = cols_out < shape[1]
    return rows_out[real], cols_out[real]


def _local_ranks(
    label: NDArray[np.int32], num_components: int
) -> tuple[NDArray[np.int64], list[int], NDArray[np.int64]]:
    """Per node its rank inside its component; component starts; nodes sorted by component."""
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(num_components + 1))
    local = np.empty(len(label), dtype=np.int64)
    local[order] = np.arange(len(label)) - starts[label[order]]
    return local, starts.tolist(), order


def match_greedy(edges: Edges, num_pred: int, num_gt: int) -> NDArray[np.int64]:
    """Ground-truth row per prediction (or -1), pairs taken in the order of falling IoU.

    Ties go to the earlier prediction, then the earlier ground truth (the rule of `coordexp`).
    """
    partner = np.full(num_pred, UNMATCHED, dtype=np.int64)
    taken = bytearray(num_gt)
    matched = bytearray(num_pred)
    order = np.lexsort((edges.gt, edges.pred, -edges.value))
    for pred, gt in zip(edges.pred[order].tolist(), edges.gt[order].tolist(), strict=True):
        if not matched[pred] and not taken[gt]:
            matched[pred] = taken[gt] = 1
            partner[pred] = gt
    return partner


def prefer_first_copies(
    partner: NDArray[np.int64], copy_group: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Among identical predictions, let the earliest ones hold the partners that were found.

    `copy_group` gives identical predictions of one image the same number. The number of pairs
    and their IoU do not change; only which of the copies is called the right one.
    """
    order = np.argsort(copy_group, kind="stable")
    sizes = np.bincount(copy_group)
    rows = order[sizes[copy_group[order]] > 1]
    if not len(rows):
        return partner
    group = copy_group[rows]
    matched_first = rows[np.lexsort((rows, partner[rows] == UNMATCHED, group))]
    out = partner.copy()
    out[rows] = partner[matched_first]
    return out


__all__ = ["UNMATCHED", "match_greedy", "match_optimal", "prefer_first_copies"]
