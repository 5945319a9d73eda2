"""Long curves made short enough to draw, without losing their spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_POINTS = 400


def thinned(
    steps: Sequence[int], values: Sequence[float], limit: int = MAX_POINTS
) -> list[tuple[int, float]]:
    """(step, value) of at most `limit` points (an even number of 4 or more), order kept.

    A longer curve keeps its first and last point and the lowest and highest point of equally
    large windows in between, so that its outline stays the same. No points give an empty list.
    """
    points = list(zip(steps, values, strict=True))
    if len(points) <= limit:
        return points
    inner = range(1, len(points) - 1)
    windows = (limit - 2) // 2
    kept = {0, len(points) - 1}
    for window in range(windows):
        places = inner[len(inner) * window // windows : len(inner) * (window + 1) // windows]
        kept.add(min(places, key=values.__getitem__))
        kept.add(max(places, key=values.__getitem__))
    return [points[place] for place in sorted(kept)]


__all__ = ["MAX_POINTS", "thinned"]
