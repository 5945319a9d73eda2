"""Which bins may be written next, from the coordinates already there: order, area, sorting.

A polygon's doubled area is linear in its last point: with first point (x1, y1), point before the
last (x', y') and S the open shoelace sum up to that point, it is S + x (y1 - y') + y (x' - x1)
for a last point (x, y). So at most one bin is ever wrong.

Sorted objects: all points lie at or behind the key (Y, X) of the previous hull exactly if they
all lie in y > Y, or all in y >= Y and x >= X: one of two quarters of the grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordeval.coords import MAX_BIN
from coordeval.decoding.language import Turn
from coordeval.parsers.record import doubled_area

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.decoding.settings import ConstraintSettings
    from coordeval.records import GeometryKind


class Bins(NamedTuple):
    """Bins low..high, without `but` (-1: without none)."""

    low: int
    high: int
    but: int = -1


class Key(NamedTuple):
    """Where an object stands in the sorted order: the hull's top, then its left."""

    top: int
    left: int


ANY_BIN = Bins(0, MAX_BIN)


class CoordinateRules:
    """The rules of one constraint; holds no state of an answer."""

    def __init__(self, settings: ConstraintSettings, *, numbered: bool) -> None:
        self._ordered = settings.orders
        self._sorted = settings.sorted_objects
        self._max_points = settings.max_points
        self._max_objects = settings.max_objects
        self._kinds = settings.geometries
        self._numbered = numbered

    def bins(self, kind: GeometryKind, values: Sequence[int], previous: Key | None) -> Bins:
        """Bins that may follow `values` in a list; never none.

        `previous` is the key of the record before, where there is one.
        """
        key = previous if self._sorted else None
        if kind == "bbox_2d":
            return self._box_bins(values, key)
        area = self._ordered and kind == "poly"
        low = _least_in_quarters(values, key, width=2 if area else 1)
        but = self._flat_bin(values) if area and self._max_points is not None else -1
        return Bins(low, MAX_BIN, but)

    def turn(
        self, kind: GeometryKind, values: Sequence[int], previous: Key | None, records: int
    ) -> Turn:
        """How the answer goes on when `values` may be a whole list, that of record `records`."""
        full = self._max_points is not None and len(values) >= 2 * self._max_points
        go_on = kind != "bbox_2d" and not full
        close = not (self._ordered and kind == "poly" and doubled_area(values) == 0)
        if self._max_objects is not None and records >= self._max_objects:
            return Turn(close, go_on)
        kinds = self._kinds
        if self._sorted and self._ordered:
            kinds = self._kinds_behind(self.key(kind, values, previous))
        return Turn(close, go_on, kinds, records if self._numbered and kinds else 0)

    def key(self, kind: GeometryKind, values: Sequence[int], previous: Key | None) -> Key | None:
        """Key of a record with these values; `previous` where nothing is sorted."""
        if not self._sorted:
            return previous
        if kind == "bbox_2d":
            return Key(values[1], values[0])
        return Key(min(values[1::2]), min(values[0::2]))

    def _box_bins(self, values: Sequence[int], key: Key | None) -> Bins:
        position = len(values)
        top = MAX_BIN - 1 if self._ordered else MAX_BIN
        if position >= 2:
            return Bins(values[position - 2] + 1, MAX_BIN) if self._ordered else ANY_BIN
        if key is None:
            return Bins(0, top)
        if position == 0:
            return Bins(0 if key.top < top else key.left, top)
        return Bins(key.top if values[0] >= key.left else key.top + 1, top)

    def _kinds_behind(self, key: Key | None) -> tuple[GeometryKind, ...]:
        """Geometries for which there is room at or behind a key: only lines fit the last bins."""
        if key is None or key <= (MAX_BIN - 1, MAX_BIN - 1):
            return self._kinds
        return tuple(kind for kind in self._kinds if kind == "line")

    def _flat_bin(self, values: Sequence[int]) -> int:
        """The bin after which the largest polygon allowed would have no area; -1 without one."""
        assert self._max_points is not None
        complete = len(values) // 2
        xs, ys = values[0 : 2 * complete : 2], values[1 : 2 * complete : 2]
        if complete == self._max_points - 2 and len(values) % 2:
            # A next to last point on the first one leaves the last one no say in the area.
            no_area = doubled_area(values[: 2 * complete]) == 0
            return ys[0] if no_area and values[-1] == xs[0] else -1
        if complete != self._max_points - 1:
            return -1
        by_x, by_y = ys[0] - ys[-1], xs[-1] - xs[0]
        so_far = doubled_area(values[: 2 * complete]) - xs[-1] * ys[0] + ys[-1] * xs[0]
        if len(values) % 2:
            return _root(so_far + by_x * values[-1], by_y)
        return -1 if by_y else _root(so_far, by_x)


def _root(constant: int, slope: int) -> int:
    """The bin at which constant + slope * bin is 0; -1 where that is no bin, or every bin."""
    if slope == 0 or constant % slope:
        return -1
    root = -constant // slope
    return root if 0 <= root <= MAX_BIN else -1


def _least_in_quarters(values: Sequence[int], key: Key | None, *, width: int) -> int:
    """The least bin of the next coordinate of points that all lie at or behind `key`.

    A quarter counts only where it holds `width` bins each way and all points so far.
    """
    if key is None:
        return 0
    latest = MAX_BIN + 1 - width
    complete = len(values) // 2
    xs, ys = values[0::2], values[1::2]
    least_y = min(ys, default=MAX_BIN)
    below = key.top + 1 <= latest and (complete == 0 or least_y > key.top)
    beside = key.left <= latest and key.top <= latest and min(xs, default=MAX_BIN) >= key.left
    if len(values) % 2 == 0:
        return 0 if below else key.left
    return key.top if beside else key.top + 1


__all__ = ["ANY_BIN", "Bins", "CoordinateRules", "Key"]
