"""Which images carry a change: exact contributions, top movers, and the change without the worst.

The change of a ratio of sums, R_B - R_A with R = sum(n) / sum(d), splits over images in two ways:
((n_B - n_A) - R_A (d_B - d_A)) / D_B, and the same with R_B and D_A. Both sum to the change; their
mean is used, so that swapping the runs only changes the sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.stats.image_table import ImageTable
    from coordeval.stats.recipes import Ratio

WORST_PERCENT = (1, 5, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstPart:
    """The `percent` % of images (`images`, at least one) that carry most of a change.

    `share` is their contribution / the whole change (above 1 where other images push back; None
    without a change); `a_without`, `b_without`, `delta_without` are the values without them.
    """

    percent: int
    images: int
    share: float | None
    a_without: float | None
    b_without: float | None
    delta_without: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """One image's contribution to a change, in units of the metric."""

    id: str
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Movers:
    """Images by their contribution to one metric's change; `up` and `down` are the largest ones.

    Contributions of all images sum to the change.
    """

    key: str
    num_up: int
    num_down: int
    up: tuple[Mover, ...]
    down: tuple[Mover, ...]
    worst: tuple[WorstPart, ...]


def contributions(a: ImageTable, b: ImageTable, ratio: Ratio) -> NDArray[np.float64] | None:
    """Per image its part of the change of a ratio; None where a side has no value."""
    (above_a, below_a), (above_b, below_b) = _sides(a, ratio), _sides(b, ratio)
    total_a, total_b = float(below_a.sum()), float(below_b.sum())
    if total_a == 0 or total_b == 0:
        return None
    value_a, value_b = above_a.sum() / total_a, above_b.sum() / total_b
    above, below = above_b - above_a, below_b - below_a
    forward = (above - value_a * below) / total_b
    backward = (above - value_b * below) / total_a
    return np.asarray((forward + backward) / 2, dtype=np.float64)


def find_movers(
    key: str,
    ids: Sequence[str],
    a: ImageTable,
    b: ImageTable,
    ratio: Ratio,
    *,
    limit: int,
) -> Movers | None:
    """Sort images by their part of the change of a ratio; None where a side has no value."""
    parts = contributions(a, b, ratio)
    if parts is None:
        return None
    order = np.argsort(-parts, kind="stable")
    up = [row for row in order[:limit].tolist() if parts[row] > 0]
    down = [row for row in order[::-1][:limit].tolist() if parts[row] < 0]
    return Movers(
        key=key,
        num_up=int((parts > 0).sum()),
        num_down=int((parts < 0).sum()),
        up=tuple(Mover(id=ids[row], contribution=float(parts[row])) for row in up),
        down=tuple(Mover(id=ids[row], contribution=float(parts[row])) for row in down),
        worst=tuple(_worst(a, b, ratio, parts, percent) for percent in WORST_PERCENT),
    )


def _worst(
    a: ImageTable, b: ImageTable, ratio: Ratio, parts: NDArray[np.float64], percent: int
) -> WorstPart:
    change = float(parts.sum())
    number = math.ceil(len(parts) * percent / 100)
    order = np.argsort(-parts if change > 0 else parts, kind="stable")
    kept = np.ones(len(parts), dtype=bool)
    kept[order[:number]] = False
    value_a, value_b = (_value(table, ratio, kept) for table in (a, b))
    any_change = bool(np.any(parts)) and abs(change) > 1e-12
    return WorstPart(
        percent=percent,
        images=number,
        share=float(parts[~kept].sum()) / change if any_change else None,
        a_without=value_a,
        b_without=value_b,
        delta_without=None if value_a is None or value_b is None else value_b - value_a,
    )


def _sides(table: ImageTable, ratio: Ratio) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    above = sum((factor * table[name] for name, factor in ratio.above.items()), np.zeros(1))
    below = sum((factor * table[name] for name, factor in ratio.below.items()), np.zeros(1))
    return np.asarray(above), np.asarray(below)


def _value(table: ImageTable, ratio: Ratio, kept: NDArray[np.bool_]) -> float | None:
    above, below = (side[kept].sum() for side in _sides(table, ratio))
    return float(above / below) if below else None


__all__ = ["WORST_PERCENT", "Mover", "Movers", "WorstPart", "contributions", "find_movers"]
