"""Whether the end of a growing sequence repeats itself: all periods, at each symbol, exactly.

A run of period p is found through windows of w >= p symbols: inside the run the window that ends
at a symbol stands there once more exactly p places earlier, and not nearer unless the block is
itself a repetition. So the distance to a window's last occurrence stays p while the run grows, and
a run that was first seen at that distance is w + p symbols long. As c copies are asked for, one
width w serves all periods from w / (c - 1) to w: a handful of widths covers thousands of periods.
"""

from __future__ import annotations

from typing import NamedTuple

_MODULUS = (1 << 61) - 1
_BASE = 0x1B0F_53A7_C2D9_E64B % _MODULUS


class TailRun(NamedTuple):
    """The last `length` symbols repeat with the smallest period `period`."""

    period: int
    length: int

    @property
    def copies(self) -> int:
        """How many whole copies stand there, the first included."""
        return self.length // self.period


class PeriodicTail:
    """Symbols pushed one by one; says when their end is `copies` copies of one block or more.

    `copies` >= 3 whole copies over at least `least_symbols` symbols, with periods up to
    `max_period`. Amortised time per symbol is that of one look-up per width, and none at all
    while the sequence is too short for any run. ValueError for fewer than 3 copies.
    """

    def __init__(self, *, copies: int, least_symbols: int, max_period: int) -> None:
        if copies < 3:
            raise ValueError("runs of fewer than 3 copies are not told as soon as they stand there")
        self.symbols: list[int] = []
        self._copies = copies
        self._least = least_symbols
        self._widths = _widths(copies, max_period)
        self._scales: list[_Scale] = []
        self._wakes_at = 0
        self.restart(())

    def push(self, symbol: int) -> TailRun | None:
        """Append one symbol; the run at the end where one is long enough now."""
        symbols = self.symbols
        symbols.append(symbol)
        size = len(symbols)
        if size < self._wakes_at:
            return None
        found: TailRun | None = None
        for scale in self._scales:
            distance = scale.push(symbols, size - 1)
            if distance and scale.run >= self._copies * distance and scale.run >= self._least:
                found = found or self._checked(distance, scale.run)
        return self._widen(size) or found

    def restart(self, symbols: tuple[int, ...] | list[int]) -> None:
        """Forget everything, and take `symbols` as if they had been pushed."""
        self.symbols = list(symbols)
        self._scales = []
        self._wakes_at = self._needed(0)
        self._widen(len(self.symbols))

    def _needed(self, place: int) -> int:
        """The length of the sequence from which on a run of that width's periods can be told."""
        least_period = 1 + (self._widths[place - 1] if place else 0)
        return max(self._copies * least_period, self._least)

    def _widen(self, size: int) -> TailRun | None:
        """Take further widths into use once the sequence is long enough for their periods."""
        place = len(self._scales)
        found: TailRun | None = None
        while place < len(self._widths) and size >= self._needed(place):
            scale = _Scale(self._widths[place])
            distance = 0
            for position in range(size):
                distance = scale.push(self.symbols, position)
            self._scales.append(scale)
            place += 1
            enough = scale.run >= max(self._copies * distance, self._least)
            if found is None and distance and enough:
                found = self._checked(distance, scale.run)
        return found

    def _checked(self, period: int, length: int) -> TailRun | None:
        """The run, unless equal hashes of unequal windows feigned it."""
        start = len(self.symbols) - length
        tail = self.symbols[start:]
        return TailRun(period, length) if tail[period:] == tail[:-period] else None


class _Scale:
    """Windows of one width: where each was seen last, and the run that follows from it."""

    __slots__ = ("_born", "_distance", "_hash", "_old", "_power", "_width", "_young", "run")

    def __init__(self, width: int) -> None:
        self._width = width
        self._power = pow(_BASE, width, _MODULUS)
        self._hash = 0
        # Windows further back than the width are of no use: two generations hold the others.
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._born = 0
        self._distance = 0
        self.run = 0

    def push(self, symbols: list[int], position: int) -> int:
        """Take the symbol at `position`; the period of the run that ends there, 0 for none."""
        width = self._width
        value = self._hash * _BASE + symbols[position]
        if position < width - 1:
            self._hash = value % _MODULUS
            return 0
        if position >= width:
            value -= self._power * symbols[position - width]
        self._hash = value = value % _MODULUS
        young = self._young
        before = young.get(value)
        if before is None:
            before = self._old.get(value)
        if position - self._born >= width:
            self._old = young
            self._young = young = {}
            self._born = position
        young[value] = position
        if before is None or position - before > width:
            self._distance = 0
            return 0
        distance = position - before
        if distance == self._distance:
            self.run += 1
        else:
            self._distance = distance
            self.run = width + distance
        return distance


def _widths(copies: int, max_period: int) -> tuple[int, ...]:
    """Window widths, rising, that together serve all periods up to `max_period`."""
    widths: list[int] = []
    covered = 0
    while covered < max_period:
        covered = min((covered + 1) * (copies - 1), max_period)
        widths.append(covered)
    return tuple(widths)


__all__ = ["PeriodicTail", "TailRun"]
