"""Which written object found which true one: the assignment of least total cost.

A pair costs 1 - IoU, an unmatched written object `fp_cost`, an unmatched true one `fn_cost`.
Shapes: P written objects, G true ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.data.names import normalise_desc
from coordeval.training.stage2.overlap import covered_matrix, iou_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.training.stage2.config import MatchingConfig
    from coordeval.training.stage2.overlap import BinObject

UNMATCHED = -1
# Far below what a bin changes in an IoU, far above the rounding of sums of hundreds of costs.
_OTHER_NAME = 1e-8
_LATER = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The outcome of one image.

    `partner` (P) holds the true object of each written one, or UNMATCHED. `iou` and `possible`
    (P, G) are those of all pairs; `possible` ones have the gate's IoU and, where classes count, one
    name. `on_crowd` (P) marks unmatched objects on a crowd region: neither right nor wrong.
    `gating_rejections` counts pairs that overlap, but less than the gate asks for (of one name,
    where classes count).
    """

    partner: tuple[int, ...]
    iou: NDArray[np.float64]
    possible: NDArray[np.bool_]
    on_crowd: tuple[bool, ...]
    gating_rejections: int


def match_objects(
    written: Sequence[BinObject],
    true: Sequence[BinObject],
    config: MatchingConfig,
    *,
    crowd: Sequence[BinObject] = (),
) -> Matching:
    """Match the objects of one image; `crowd` regions are never matched.

    Names are compared in their normal form. Ties go to a pair of one name, then to the object
    written first, then to the true one that comes first; the same objects give the same matching.
    No objects on a side leave the other side unmatched. An unmatched object lies on a crowd region
    where at least `gate` of its own area does, of the same name where classes count.
    """
    iou_PG = iou_matrix(written, true, mask_size=config.mask_size)
    one_name_PG = _one_name(written, true)
    comparable_PG = one_name_PG if config.class_aware else np.ones_like(one_name_PG)
    overlapping_PG = (iou_PG > 0) & comparable_PG
    # Without a gate pairs that do not touch are possible too, as in the definition.
    possible_PG = (iou_PG >= config.gate) & comparable_PG
    cost_PG = np.where(possible_PG, 1.0 - iou_PG, np.inf)
    order_P1 = np.arange(1, len(written) + 1)[:, None] / max(len(written), 1)
    found = assign(
        cost_PG + _OTHER_NAME * ~one_name_PG + _LATER * order_P1,
        fp_cost=config.fp_cost,
        fn_cost=config.fn_cost,
    )
    partner = _first_twins_first(found, written, true)
    return Matching(
        partner=partner,
        iou=iou_PG,
        possible=possible_PG,
        on_crowd=_on_crowd(written, crowd, partner, config),
        gating_rejections=int((overlapping_PG & ~possible_PG).sum()),
    )


def assign(cost_PG: NDArray[np.float64], *, fp_cost: float, fn_cost: float) -> list[int]:
    """Column of each row, or UNMATCHED, at the least total cost; infinite costs are no pairs.

    Solved as a square assignment of P + G: each row may take one of P dummy columns at `fp_cost`,
    each column one of G dummy rows at `fn_cost`, and what is left of the dummies meets for nothing.
    Every matching of some rows to some columns is one such assignment with the cost
    sum(pairs) + fp_cost * free rows + fn_cost * free columns, and the other way round, so the least
    of one is the least of the other. A pair is made where it costs less than fp_cost + fn_cost.
    """
    from scipy.optimize import linear_sum_assignment

    num_rows, num_columns = cost_PG.shape
    square = np.zeros((num_rows + num_columns, num_columns + num_rows))
    square[:num_rows, :num_columns] = cost_PG
    square[:num_rows, num_columns:] = fp_cost
    square[num_rows:, :num_columns] = fn_cost
    rows, columns = linear_sum_assignment(square)
    partner = [UNMATCHED] * num_rows
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        worth_it = row < num_rows and column < num_columns
        if worth_it and cost_PG[row, column] < fp_cost + fn_cost:
            partner[row] = column
    return partner


def _one_name(written: Sequence[BinObject], true: Sequence[BinObject]) -> NDArray[np.bool_]:
    number: dict[str, int] = {}
    codes_P, codes_G = (
        np.array(
            [number.setdefault(normalise_desc(obj.desc), len(number)) for obj in objects],
            dtype=np.int64,
        )
        for objects in (written, true)
    )
    same: NDArray[np.bool_] = codes_P[:, None] == codes_G[None, :]
    return same


def _first_twins_first(
    partner: Sequence[int], written: Sequence[BinObject], true: Sequence[BinObject]
) -> tuple[int, ...]:
    """The same pairs among equal objects, in order: the first written ones hold the first true."""
    out = list(partner)
    for rows in _equal(written):
        held = sorted(out[row] for row in rows if out[row] != UNMATCHED)
        held += [UNMATCHED] * (len(rows) - len(held))
        for row, column in zip(rows, held, strict=True):
            out[row] = column
    row_of = {column: row for row, column in enumerate(out) if column != UNMATCHED}
    for columns in _equal(true):
        taking = sorted(row_of[column] for column in columns if column in row_of)
        for row, column in zip(taking, columns, strict=False):
            out[row] = column
    return tuple(out)


def _equal(objects: Sequence[BinObject]) -> list[list[int]]:
    """Indices of objects that are equal, in groups of two or more, rising."""
    groups: dict[BinObject, list[int]] = defaultdict(list)
    for index, obj in enumerate(objects):
        groups[obj].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _on_crowd(
    written: Sequence[BinObject],
    crowd: Sequence[BinObject],
    partner: Sequence[int],
    config: MatchingConfig,
) -> tuple[bool, ...]:
    covered = covered_matrix(written, crowd, mask_size=config.mask_size)
    if config.class_aware:
        covered = covered * _one_name(written, crowd)
    on_some_P = np.any((covered >= config.gate) & (covered > 0), axis=1)
    on_some: list[bool] = np.asarray(on_some_P, dtype=bool).tolist()
    return tuple(column == UNMATCHED and on_some[row] for row, column in enumerate(partner))


__all__ = ["UNMATCHED", "Matching", "assign", "match_objects"]
