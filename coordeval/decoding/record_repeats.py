"""Repetition among complete records: one again and again, blocks of several, near copies."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.record import doubled_area

if TYPE_CHECKING:
    from collections.abc import Hashable

    from coordeval.decoding.record_stream import WrittenRecord
    from coordeval.decoding.settings import GuardSettings
    from coordeval.decoding.verdict import LoopKind

_SCANLINES = 256
MOST_PLACES = 64
"""How many earlier places of one record are looked at for blocks."""

_Box = tuple[int, int, int, int]


class _Shape(NamedTuple):
    """The hull of a box or polygon, and its doubled area; of a polygon also its values."""

    hull: _Box
    area: int
    outline: tuple[int, ...] | None


class RecordLoop(NamedTuple):
    """A loop of records: `second` is the index of the record that begins the second copy.

    `first` and `last` (exclusive) are the indices of one copy; `period` and `copies` as in
    `Verdict`.
    """

    kind: LoopKind
    first: int
    last: int
    second: int
    period: int
    copies: int


class RecordRepeats:
    """Records added one by one; says when they loop. Constant time per record.

    Exact: the same record for the `exact_repeats`-th time, anywhere. Block: `block_repeats` copies
    back to back of two records or more. Near: `near_repeats` records in a row that each repeat the
    one before, exactly or with the same description, the same kind and IoU >= `near_iou`. Where
    several hold, the first of these is named.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._places: dict[Hashable, list[int]] = {}
        self._matched: dict[int, int] = {}
        self._near_run = 0
        self._last: WrittenRecord | None = None
        self._last_shape: _Shape | None = None
        self._count = 0

    def add(self, record: WrittenRecord) -> RecordLoop | None:
        """Take the next record; the loop that it completes, if there is one."""
        index = self._count
        self._count += 1
        places = self._places.setdefault(record.identity, [])
        block = self._block(index, places)
        near = self._near(index, record)
        places.append(index)
        if len(places) >= self._settings.exact_repeats:
            before, second = places[-2], places[1]
            return RecordLoop("exact", index, index + 1, second, index - before, len(places))
        return block or near

    def _block(self, index: int, places: list[int]) -> RecordLoop | None:
        """Count, per period, how many records in a row equal the one a period earlier."""
        matched = self._matched
        now: dict[int, int] = {}
        wanted = self._settings.block_repeats - 1
        found: RecordLoop | None = None
        for place in reversed(places[-MOST_PLACES:]):
            period = index - place
            now[period] = length = matched.get(period, 0) + 1
            if found is None and period >= 2 and length >= wanted * period:
                second = index - length + 1
                copies = length // period + 1
                found = RecordLoop("block", second - period, second, second, period, copies)
        self._matched = now
        return found

    def _near(self, index: int, record: WrittenRecord) -> RecordLoop | None:
        """Count how many records in a row repeat the one before."""
        last, last_shape = self._last, self._last_shape
        shape = _shape(record)
        self._last, self._last_shape = record, shape
        if last is None:
            return None
        repeats = record.identity == last.identity or (
            shape is not None
            and last_shape is not None
            and record.name == last.name
            and record.kind == last.kind
            and _alike(shape, last_shape, self._settings.near_iou)
        )
        self._near_run = self._near_run + 1 if repeats else 0
        if self._near_run < self._settings.near_repeats:
            return None
        run = self._near_run
        return RecordLoop("near", index, index + 1, index - run + 1, 1, run + 1)


def _shape(record: WrittenRecord) -> _Shape | None:
    """The shape of a box or polygon; None where there is none with an area."""
    values = record.values
    if values is None or len(values) % 2:
        return None
    if record.kind == "poly" and len(values) >= 6:
        xs, ys = values[0::2], values[1::2]
        hull = (min(xs), min(ys), max(xs), max(ys))
        area = abs(doubled_area(values))
        return _Shape(hull, area, tuple(values)) if area else None
    if record.kind != "bbox_2d" or len(values) != 4:
        return None
    width, height = values[2] - values[0], values[3] - values[1]
    box = (values[0], values[1], values[2], values[3])
    return _Shape(box, 2 * width * height, None) if width > 0 and height > 0 else None


def _alike(a: _Shape, b: _Shape, least: float) -> bool:
    """True where the IoU is `least` or more; polygons are first bounded by hulls and areas."""
    bound = min(_iou(a.hull, b.hull), min(a.area, b.area) / max(a.area, b.area))
    if bound < least:
        return False
    if a.outline is None or b.outline is None:
        return True
    return _outline_iou(a, b) >= least


def _outline_iou(a: _Shape, b: _Shape) -> float:
    """IoU of two polygons (even-odd), taken along `_SCANLINES` lines across both hulls."""
    assert a.outline is not None
    assert b.outline is not None
    low, high = min(a.hull[1], b.hull[1]), max(a.hull[3], b.hull[3])
    shared = whole = 0.0
    for line in range(_SCANLINES):
        y = low + (high - low) * (line + 0.5) / _SCANLINES
        edges = sorted(
            [(x, 0) for x in _crossings(a.outline, y)] + [(x, 1) for x in _crossings(b.outline, y)]
        )
        inside = [False, False]
        for (x, which), (following, _) in pairwise(edges):
            inside[which] = not inside[which]
            shared += (following - x) * all(inside)
            whole += (following - x) * any(inside)
    return shared / whole if whole else 0.0


def _crossings(outline: tuple[int, ...], y: float) -> list[float]:
    """Where a horizontal line meets the edges of a polygon."""
    xs, ys = outline[0::2], outline[1::2]
    ends = zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True)
    return [
        x1 + (y - y1) * (x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in ends if (y1 <= y) != (y2 <= y)
    ]


def _iou(a: _Box, b: _Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


__all__ = ["RecordLoop", "RecordRepeats"]
