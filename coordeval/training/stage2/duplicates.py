"""Which written objects are repeats of others, and which of several copies stays.

Near repeats are objects of one description and kind whose IoU is at least `duplicate_iou`, equal
ones among them, and whatever a chain of near repeats connects. Shapes: P written objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.data.names import normalise_desc
from coordeval.training.stage2.matching import UNMATCHED
from coordeval.training.stage2.overlap import iou_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.training.stage2.matching import Matching
    from coordeval.training.stage2.overlap import BinObject


def repeat_groups(
    written: Sequence[BinObject], *, duplicate_iou: float, mask_size: int
) -> list[list[int]]:
    """Connected groups of near repeats, each of two or more, in the order of their first ones.

    Descriptions are compared in their normal form. No objects, no groups.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    together: dict[tuple[str, str], list[int]] = {}
    for row, obj in enumerate(written):
        together.setdefault((normalise_desc(obj.desc), obj.kind), []).append(row)
    out = []
    for rows in together.values():
        if len(rows) == 1:
            continue
        objects = [written[row] for row in rows]
        near = iou_matrix(objects, objects, mask_size=mask_size) >= duplicate_iou
        # Masks of one pair may round differently in the two directions.
        left, right = np.nonzero(near | near.T)
        pairs = (np.ones(len(left), dtype=np.int8), (left, right))
        num, group = connected_components(coo_array(pairs, shape=near.shape), directed=False)
        members = [np.flatnonzero(group == number).tolist() for number in range(num)]
        out += [[rows[place] for place in places] for places in members if len(places) > 1]
    return sorted(out)


def suppressed_repeats(
    written: Sequence[BinObject], matching: Matching, *, duplicate_iou: float, mask_size: int
) -> tuple[bool, ...]:
    """Which written objects (P) are repeats that an answer is better without.

    Of a group of near repeats the matched ones stay, and where none is matched the first one;
    matched objects are never repeats. An unmatched object outside of any group is a repeat too
    where it could be matched, but an object of the same description, its twin, holds its true one.
    """
    suppressed = [False] * len(written)
    for group in repeat_groups(written, duplicate_iou=duplicate_iou, mask_size=mask_size):
        stays = {row for row in group if matching.partner[row] != UNMATCHED} or {group[0]}
        for row in group:
            suppressed[row] = row not in stays
    names = [normalise_desc(obj.desc) for obj in written]
    holder = {column: row for row, column in enumerate(matching.partner) if column != UNMATCHED}
    for row, column in np.argwhere(matching.possible & (matching.iou > 0)).tolist():
        free = matching.partner[row] == UNMATCHED and not matching.on_crowd[row]
        twin = holder.get(column)
        if free and twin is not None and names[twin] == names[row]:
            suppressed[row] = True
    return tuple(suppressed)


__all__ = ["repeat_groups", "suppressed_repeats"]
