"""Spans taken one after the other, each only where it meets none taken before."""

from __future__ import annotations

from bisect import bisect_left


class DisjointSpans:
    """Half-open spans that do not overlap, kept sorted: each question costs O(log n)."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take(self, start: int, end: int) -> bool:
        """Add [start, end), `start < end`; False, and nothing is added, where it meets another."""
        place = bisect_left(self._starts, start)
        if place and self._ends[place - 1] > start:
            return False
        if place < len(self._starts) and self._starts[place] < end:
            return False
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        return True


__all__ = ["DisjointSpans"]
