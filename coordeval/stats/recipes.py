"""How each metric is made from per-image statistics, so that a draw makes it in the same way.

A recipe turns a draw (sums of columns, and the weights themselves) into values, one per draw, NaN
where the metric has no value. With every image once it gives the metric itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coordeval.stats.bootstrap import drawn_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from coordeval.stats.image_table import ImageTable

ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """B draws of a run: `weights` (B, images), and the sum of every column under them."""

    table: ImageTable
    weights: NDArray[np.float64]
    sums: NDArray[np.float64]
    place: Mapping[str, int]

    def few(self) -> Iterator[NDArray[np.float64]]:
        """The weights, some rows at a time."""
        for first in range(0, len(self.weights), ROWS_AT_ONCE):
            yield self.weights[first : first + ROWS_AT_ONCE]

    def sum(self, name: str) -> NDArray[np.float64]:
        """The column's weighted sum per draw; 0 for a column that the run lacks."""
        place = self.place.get(name)
        return np.zeros(len(self.weights)) if place is None else self.sums[:, place]

    def combined(self, parts: Mapping[str, float]) -> NDArray[np.float64]:
        """A sum of columns with factors."""
        out = np.zeros(len(self.weights))
        for name, factor in parts.items():
            out += factor * self.sum(name)
        return out


def make_draws(table: ImageTable, weights: NDArray[np.float64]) -> Draws:
    """Sum every column of the table under each row of weights (B, images)."""
    names = table.names
    parts = [weights @ part for part in table.matrices()]
    return Draws(
        table=table,
        weights=weights,
        sums=np.concatenate([np.zeros((len(weights), 0)), *parts], axis=1),
        place={name: number for number, name in enumerate(names)},
    )


def replicate_recipes(
    recipes: Mapping[str, Recipe], table: ImageTable, weights: NDArray[np.integer[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Per key its value with every image once, then one per draw (weights: draws, images)."""
    parts: dict[str, list[NDArray[np.float64]]] = {key: [] for key in recipes}
    for part in drawn_parts(weights):
        draws = make_draws(table, part)
        for key, recipe in recipes.items():
            parts[key].append(recipe.values(draws))
    return {key: np.concatenate(chunks) for key, chunks in parts.items()}


class Recipe(Protocol):
    """Anything that makes a metric from draws; `columns` are those that it reads."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """One value per draw."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that resampling images does not change."""

    value: float
    columns: tuple[str, ...] = ()

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The number, per draw."""
        return np.full(len(draws.weights), float(self.value))


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of a column."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The sum, per draw."""
        return draws.sum(self.column)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two sums of columns; `empty` where the denominator is 0 (None: no value)."""

    above: Mapping[str, float]
    below: Mapping[str, float]
    empty: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of both sides."""
        return (*self.above, *self.below)

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The ratio, per draw."""
        above, below = draws.combined(self.above), draws.combined(self.below)
        out = np.full(len(above), np.nan if self.empty is None else self.empty)
        np.divide(above, below, out=out, where=below != 0)
        return out


@dataclass(frozen=True, slots=True)
class Harmonic:
    """The harmonic mean of two ratios, 0 where both are 0 (protocols with `empty_ratio`)."""

    first: Ratio
    second: Ratio

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of both ratios."""
        return (*self.first.columns, *self.second.columns)

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The harmonic mean, per draw."""
        one, two = self.first.values(draws), self.second.values(draws)
        out = np.zeros(len(one))
        np.divide(2 * one * two, one + two, out=out, where=one + two > 0)
        return out


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of several recipes; no value where one of them has none."""

    parts: tuple[Recipe, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of all parts."""
        return tuple(name for part in self.parts for name in part.columns)

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The mean, per draw."""
        values = [part.values(draws) for part in self.parts]
        return np.asarray(sum(values[1:], start=values[0]) / len(values), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest value of a column among the images drawn, at least `least` where any is > 0."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The largest value, per draw."""
        column = draws.table[self.column]
        order = np.argsort(-column, kind="stable")
        first = [np.argmax(rows[:, order] > 0, axis=1) for rows in draws.few()]
        return np.asarray(column[order][np.concatenate(first)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Smallest:
    """The smallest value of a column among the images drawn that have one (`has_<column>`)."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The column and its mask."""
        return (self.column, f"has_{self.column}")

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The smallest value, per draw; NaN where no image has one."""
        column, known = draws.table[self.column], draws.table[f"has_{self.column}"] > 0
        order = np.flatnonzero(known)[np.argsort(column[known], kind="stable")]
        if not len(order):
            return np.full(len(draws.weights), np.nan)
        ordered, out = column[order], []
        for rows in draws.few():
            drawn = rows[:, order] > 0
            out.append(np.where(drawn.any(axis=1), ordered[np.argmax(drawn, axis=1)], np.nan))
        return np.concatenate(out)


@dataclass(frozen=True, slots=True)
class PooledQuantile:
    """A quantile (linear interpolation) over values of which an image has any number.

    `ordered` are the values in rising order and `image` the row of each; `columns` those that
    hold their sum, to see which images differ.
    """

    ordered: NDArray[np.float64] = field(repr=False)
    image: NDArray[np.int64] = field(repr=False)
    share: float
    columns: tuple[str, ...]

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The quantile, per draw; NaN where no value is drawn."""
        out = np.full(len(draws.weights), np.nan)
        per_image = np.bincount(self.image, minlength=draws.weights.shape[1])
        for row, weights in enumerate(draws.weights):
            total = float(weights @ per_image)
            if total > 0:
                place = (total - 1) * self.share
                below, above = self._at(weights, np.floor(place), total)
                out[row] = below + (above - below) * (place - np.floor(place))
        return out

    def _at(self, weights: NDArray[np.float64], low: float, total: float) -> NDArray[np.float64]:
        """The drawn values at places `low` and `low + 1`."""
        # The wanted values mostly stand in the first part; the rest is looked at where they do not.
        places = [low, min(low + 1, total - 1)]
        some = min(len(self.ordered), int(1.5 * self.share * len(self.ordered)) + 64)
        for part in (slice(0, some), slice(None)):
            ends = np.cumsum(weights[self.image[part]])
            if ends[-1] > places[-1]:
                break
        return self.ordered[np.searchsorted(ends, places, side="right")]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of a column (linear interpolation) over images with `has_<column>`."""

    column: str
    share: float

    @property
    def columns(self) -> tuple[str, ...]:
        """The column and its mask."""
        return (self.column, f"has_{self.column}")

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The quantile, per draw; NaN where no image has a value."""
        column, known = draws.table[self.column], draws.table[f"has_{self.column}"] > 0
        order = np.flatnonzero(known)[np.argsort(column[known], kind="stable")]
        ordered = column[order]
        out = np.full(len(draws.weights), np.nan)
        for row, weights in enumerate(draws.weights):
            counts = np.cumsum(weights[order])
            total = counts[-1] if len(counts) else 0
            if total == 0:
                continue
            place = (total - 1) * self.share
            low = np.floor(place)
            pair = np.searchsorted(counts, [low, min(low + 1, total - 1)], side="right")
            below, above = ordered[pair]
            out[row] = below + (above - below) * (place - low)
        return out


@dataclass(frozen=True, slots=True)
class WorstShare:
    """The share of a column's sum on the worst `percent` % of images without engine error."""

    column: str
    percent: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return (self.column, "alive")

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The share, per draw; NaN where the sum is 0."""
        column = draws.table[self.column] * draws.table["alive"]
        order = np.argsort(-column, kind="stable")[: int((column > 0).sum())]
        total = draws.weights @ column
        worst = np.ceil(draws.sum("alive") * self.percent / 100)
        # The worst images stand at the front; three times their number is enough but for chance.
        front = order[: 3 * int(worst.max(initial=0)) + 50]
        if len(front) < len(order) and (draws.weights[:, front].sum(axis=1) < worst).any():
            front = order
        weights = draws.weights[:, front]
        before = np.cumsum(weights, axis=1) - weights
        taken = np.clip(worst[:, None] - before, 0, weights)
        out = np.full(len(total), np.nan)
        np.divide(taken @ column[front], total, out=out, where=total > 0)
        return out


@dataclass(frozen=True, slots=True)
class MeanOfClasses:
    """Mean over classes with a right prediction (protocol `rex-omni`); `leaf` says of what.

    `counts` (images, 3 x classes) holds right, wrong and missed objects per image and class.
    """

    leaf: str
    counts: NDArray[np.float64] = field(repr=False)
    columns: tuple[str, ...]

    def values(self, draws: Draws) -> NDArray[np.float64]:
        """The mean, per draw; NaN where no class has a right prediction."""
        sums = (draws.weights @ self.counts).reshape(len(draws.weights), 3, -1)
        right, wrong, missed = sums[:, 0], sums[:, 1], sums[:, 2]
        some = right > 0
        below = {
            "precision": right + wrong,
            "recall": right + missed,
            "f1": right + (wrong + missed) / 2,
        }[self.leaf]
        each = np.divide(right, below, out=np.zeros_like(right), where=some)
        out = np.full(len(sums), np.nan)
        number = some.sum(axis=1)
        np.divide(each.sum(axis=1), number, out=out, where=number > 0)
        return out


__all__ = [
    "Constant",
    "Draws",
    "Harmonic",
    "Largest",
    "Mean",
    "MeanOfClasses",
    "PooledQuantile",
    "Quantile",
    "Ratio",
    "Recipe",
    "Smallest",
    "Total",
    "WorstShare",
    "make_draws",
    "replicate_recipes",
]
