"""Expressions as a deterministic automaton over bytes, built where a text leads it.

A state is the set of all readings of what was written so far (subset construction); its row of
256 next states is filled in when it is first left. State 0 is the dead one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from coordeval.decoding.expressions import (
    Alt,
    Branch,
    Bytes,
    End,
    OneOf,
    Only,
    Points,
    Seq,
    Slot,
    SlotMark,
    Star,
    in_utf8,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coordeval.decoding.expressions import Expr

DEAD = 0

_Rest = tuple["Expr", "_Rest"] | None
_Item = tuple["Expr", int, _Rest]
"""One reading: an expression, how many of its bytes were read, and what follows it."""

_Edge = tuple[int, int, frozenset[_Item]]


def _begin(expr: Expr, rest: _Rest, items: set[_Item]) -> None:
    """Add the readings that `expr`, followed by `rest`, begins with."""
    while True:
        if isinstance(expr, Seq):
            for part in reversed(expr.parts):
                rest = (part, rest)
            assert rest is not None
            expr, rest = rest
        elif isinstance(expr, Alt):
            for option in expr.options:
                _begin(option, rest, items)
            return
        elif isinstance(expr, Star):
            _begin(expr.inner, (expr, rest), items)
            if rest is None:
                return
            expr, rest = rest
        elif isinstance(expr, Points):
            expr = in_utf8(expr)
        elif isinstance(expr, Bytes) and not expr.data:
            if rest is None:
                return
            expr, rest = rest
        elif isinstance(expr, Branch) and expr.final:
            items.add((expr, 0, rest))
            if rest is None:
                return
            expr, rest = rest
        else:
            items.add((expr, 0, rest))
            return


def _readings(expr: Expr | None, rest: _Rest) -> frozenset[_Item]:
    items: set[_Item] = set()
    if expr is not None:
        _begin(expr, rest, items)
    return frozenset(items)


def _resolved(items: frozenset[_Item]) -> frozenset[_Item]:
    """Where an `Only` has begun, nothing but what it holds."""
    begun = [item for item in items if isinstance(item[0], Only)]
    if not begun:
        return items
    inner: set[_Item] = set()
    for expr, _, rest in begun:
        assert isinstance(expr, Only)
        _begin(expr.inner, rest, inner)
    return frozenset(inner)


def _edges(item: _Item) -> list[_Edge]:
    """Ranges of bytes that go on with a reading, and the readings they lead to."""
    expr, done, rest = item
    if isinstance(expr, Bytes):
        byte = expr.data[done]
        if done + 1 < len(expr.data):
            return [(byte, byte, frozenset([(expr, done + 1, rest)]))]
        return [(byte, byte, _continue(rest))]
    if isinstance(expr, OneOf):
        following = _continue(rest)
        return [(low, high, following) for low, high in expr.ranges]
    if isinstance(expr, Branch):
        return [(byte, byte, _readings(child, rest)) for byte, child in expr.children.items()]
    return []  # Slot and End are not left by a byte


def _continue(rest: _Rest) -> frozenset[_Item]:
    return _readings(*rest) if rest is not None else frozenset()


class Automaton:
    """States of one language; grows while it is used."""

    def __init__(self) -> None:
        self._items: list[frozenset[_Item]] = [frozenset()]
        self._number: dict[frozenset[_Item], int] = {frozenset(): DEAD}
        self._begun: dict[Expr, int] = {}
        self._table = np.zeros((64, 256), dtype=np.int32)
        self._filled = np.zeros(64, dtype=np.bool_)
        self._filled[DEAD] = True
        self.accepts: list[bool] = [False]
        self.slots: list[SlotMark | None] = [None]

    def __len__(self) -> int:
        return len(self._items)

    def begin(self, expr: Expr) -> int:
        """The state in which `expr` begins."""
        state = self._begun.get(expr)
        if state is None:
            state = self._begun[expr] = self._state(_readings(expr, None))
        return state

    def row(self, state: int) -> NDArray[np.int32]:
        """Next state per byte (256,); a view that must not be written to."""
        if not self._filled[state]:
            self._fill(state)
        row: NDArray[np.int32] = self._table[state]
        return row

    def rows(self, states: NDArray[np.int32]) -> NDArray[np.int32]:
        """The table (S, 256), in which at least the rows of `states` are filled."""
        met = np.zeros(len(self._items), dtype=np.bool_)
        met[states] = True
        for state in np.flatnonzero(met & ~self._filled[: len(met)]).tolist():
            self._fill(state)
        return self._table

    def walk(self, state: int, data: bytes) -> int:
        """The state after `data`; DEAD where it does not fit."""
        for byte in data:
            if state == DEAD:
                return DEAD
            state = int(self.row(state)[byte])
        return state

    def _state(self, items: frozenset[_Item]) -> int:
        items = _resolved(items)
        state = self._number.get(items)
        if state is not None:
            return state
        marks = {item[0].mark for item in items if isinstance(item[0], Slot)}
        assert len(marks) <= 1, "two geometries cannot await a coordinate at once"
        state = self._number[items] = len(self._items)
        self._items.append(items)
        self.slots.append(marks.pop() if marks else None)
        self.accepts.append(any(isinstance(item[0], End) for item in items))
        if state >= len(self._filled):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._filled = np.concatenate([self._filled, np.zeros_like(self._filled)])
        return state

    def _fill(self, state: int) -> None:
        edges = [edge for item in self._items[state] for edge in _edges(item)]
        targets = [(low, high, self._state(items)) for low, high, items in _disjoint(edges)]
        row = self._table[state]  # only now: the table may have moved while it grew
        for low, high, target in targets:
            row[low : high + 1] = target
        self._filled[state] = True


def _disjoint(edges: list[_Edge]) -> Iterable[_Edge]:
    """The same edges over ranges of bytes that do not overlap."""
    if len(edges) == 1:
        return edges
    singles: dict[int, frozenset[_Item]] = {}
    for low, high, items in edges:
        if low != high or low in singles:
            break
        singles[low] = items
    else:
        return edges
    cuts = sorted({edge[0] for edge in edges} | {edge[1] + 1 for edge in edges})
    out: list[_Edge] = []
    for low, beyond in pairwise(cuts):
        covering = [items for first, last, items in edges if first <= low <= last]
        if covering:
            out.append((low, beyond - 1, frozenset().union(*covering)))
    return out


__all__ = ["DEAD", "Automaton"]
