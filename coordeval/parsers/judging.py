"""What a geometry's key stands for, and whether a plain list of its coordinates is valid."""

from __future__ import annotations

from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from coordeval.coords import MAX_BIN
from coordeval.parsers import reasons
from coordeval.records import GEOMETRY_KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import FoundRecord, GeometryKind

Drop = tuple[str, str | None, str | None, int | None]
"""Reason, detail, evidence and slot, as a FoundRecord holds them."""

KINDS_BY_KEY: dict[str, GeometryKind] = {kind: kind for kind in GEOMETRY_KINDS}
_DRIFTED_KINDS: tuple[tuple[str, GeometryKind], ...] = (
    ("bbox", "bbox_2d"),
    ("box", "bbox_2d"),
    ("poly", "poly"),
    ("line", "line"),
    ("point", "line"),
    ("quad", "poly"),
)
_LEAST_VALUES: dict[GeometryKind, int] = {"bbox_2d": 4, "poly": 6, "line": 4}


class ReadRecord(NamedTuple):
    """A judged record, where reading goes on, and the issues that its inside raises."""

    record: FoundRecord
    after: int
    issues: tuple[str, ...]


@lru_cache(maxsize=256)
def kind_of(key: str) -> GeometryKind | None:
    """The geometry that a key stands for, drifted keys such as bbox_3d included."""
    known = KINDS_BY_KEY.get(key)
    if known is not None:
        return known
    for prefix, kind in _DRIFTED_KINDS:
        if key.startswith(prefix):
            return kind
    return None


def judge_values(
    values: Sequence[int], kind: GeometryKind, *, in_bins: bool, largest: int = MAX_BIN
) -> Drop | None:
    """Arity, range and degeneracy of a plain list of coordinates; None where it is valid.

    Where the values are bins, none may be above `largest`.
    """
    count = len(values)
    if count < _LEAST_VALUES[kind]:
        return reasons.WRONG_ARITY, "too_few", None, None
    if kind == "bbox_2d" and count > 4:
        return reasons.WRONG_ARITY, "too_many", None, None
    if count % 2:
        return reasons.WRONG_ARITY, "odd_count", None, None
    if in_bins and max(values) > largest:
        slot = next(i for i, value in enumerate(values) if value > largest)
        return reasons.COORD_OUT_OF_RANGE, None, str(values[slot]), slot
    if kind == "bbox_2d":
        if values[2] <= values[0] or values[3] <= values[1]:
            return reasons.DEGENERATE_BOX, "empty_box", None, None
    elif kind == "poly" and doubled_area(values) == 0:
        return reasons.DEGENERATE_BOX, "zero_area", None, None
    return None


def doubled_area(values: Sequence[int]) -> int:
    """Twice the signed area of a flat polygon x, y, x, y, ... by the shoelace formula."""
    xs, ys = values[0::2], values[1::2]
    forward: int = sum(map(mul, xs, ys[1:]))  # map stops at the shorter one
    backward: int = sum(map(mul, ys, xs[1:]))
    return forward - backward + xs[-1] * ys[0] - ys[-1] * xs[0]


__all__ = ["KINDS_BY_KEY", "Drop", "ReadRecord", "doubled_area", "judge_values", "kind_of"]
