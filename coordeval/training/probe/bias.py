"""One context against the other on the same images: differences with a paired bootstrap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coordeval.dynamics.keys import key_info
from coordeval.stats.bootstrap import (
    ALPHA,
    benjamini_hochberg,
    draw_weights,
    evidence,
    smallest_p,
)
from coordeval.stats.changes import Change
from coordeval.training.diagnostics.totals import FIELDS, P90_KEY, RATIOS, add_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.training.diagnostics.totals import Totals

QUANTILE = 0.9
DRAWS_AT_ONCE = 100


def context_changes(
    first: Sequence[Totals],
    second: Sequence[Totals],
    *,
    ids: Sequence[str],
    keys: Sequence[str],
    draws: int,
    seed: int,
) -> dict[str, Change]:
    """Second less first, per key; `first[i]` and `second[i]` are of the image `ids[i]`.

    Images are resampled in pairs (both contexts of an image together); p-values are adjusted over
    the keys. A key without a value on a side has no difference.
    """
    weights = draw_weights(len(ids), draws, seed, _canonical_places(ids))
    values = [add_up(side).metrics() for side in (first, second)]
    replicates = [_replicates(side, keys, weights) for side in (first, second)]
    changes = {}
    for key in keys:
        info = key_info(key)
        a, b = values[0][key], values[1][key]
        change = Change(
            key=key,
            better=info.better,
            unit=info.unit,
            a=a,
            b=b,
            delta=None if a is None or b is None else b - a,
            headline=True,
        )
        if change.delta is not None:
            number = _images_differ(first, second, key)
            found = evidence(
                change.delta, replicates[1][key] - replicates[0][key], images_differ=number
            )
            change = replace(
                change,
                low=found.low,
                high=found.high,
                p=found.p,
                detectable=found.detectable,
                draws=found.draws,
                images_differ=number,
            )
        changes[key] = change
    return _judged(changes)


def _canonical_places(ids: Sequence[str]) -> NDArray[np.int64]:
    """Where each image stands among the sorted ids: the same images get the same weights."""
    places = np.empty(len(ids), dtype=np.int64)
    places[np.argsort(np.array(ids, dtype=object), kind="stable")] = np.arange(len(ids))
    return places


def _replicates(
    totals: Sequence[Totals], keys: Sequence[str], weights: NDArray[np.integer[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Per key one value per draw (weights: draws x images), NaN where a draw has none."""
    table = np.array([part.sums for part in totals]).reshape(len(totals), len(FIELDS))
    sums = weights.astype(np.float64) @ table
    place = {name: number for number, name in enumerate(FIELDS)}
    out = {}
    for key in keys:
        if key == P90_KEY:
            out[key] = drawn_quantiles([part.abs_errors for part in totals], weights, QUANTILE)
            continue
        above, below = (sums[:, place[name]] for name in RATIOS[key])
        out[key] = np.full(len(weights), np.nan)
        np.divide(above, below, out=out[key], where=below != 0)
    return out


def drawn_quantiles(
    values_per_image: Sequence[NDArray[np.float64]],
    weights: NDArray[np.integer[Any]],
    quantile: float,
) -> NDArray[np.float64]:
    """Quantile of all values per draw, each image's values repeated as often as its weight says.

    Linear between the two nearest values, as numpy's default; NaN for a draw without values.
    """
    values = np.concatenate([np.zeros(0), *values_per_image])
    sizes = [len(part) for part in values_per_image]
    image = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(values, kind="stable")
    values, image = values[order], image[order]
    out = np.full(len(weights), np.nan)
    for start in range(0, len(weights), DRAWS_AT_ONCE):
        counts = weights[start : start + DRAWS_AT_ONCE][:, image].cumsum(axis=1, dtype=np.int64)
        for row, cumulative in enumerate(counts, start=start):
            if not len(cumulative) or cumulative[-1] == 0:
                continue
            place = quantile * (int(cumulative[-1]) - 1)
            low = int(place)
            high = min(low + 1, int(cumulative[-1]) - 1)
            first, second = values[np.searchsorted(cumulative, [low, high], side="right")]
            out[row] = first + (place - low) * (second - first)
    return out


def _images_differ(first: Sequence[Totals], second: Sequence[Totals], key: str) -> int:
    def differ(one: Totals, two: Totals) -> bool:
        if key == P90_KEY:
            return not np.array_equal(np.sort(one.abs_errors), np.sort(two.abs_errors))
        return any(one[name] != two[name] for name in RATIOS[key])

    return sum(differ(one, two) for one, two in zip(first, second, strict=True))


def _judged(changes: dict[str, Change]) -> dict[str, Change]:
    """Verdicts under adjusted p-values; what could never be told apart is no test (Tarone)."""
    tested = [
        key
        for key, change in changes.items()
        if change.p is not None and smallest_p(change.images_differ or 0) <= ALPHA
    ]
    adjusted = benjamini_hochberg([changes[key].p or 0.0 for key in tested])
    p_of = dict(zip(tested, adjusted, strict=True))
    return {
        key: change
        if change.p is None
        else replace(
            change,
            p_adjusted=p_of.get(key, 1.0),
            verdict=_verdict(change, p_of.get(key, 1.0)),
        )
        for key, change in changes.items()
    }


def _verdict(change: Change, p_adjusted: float) -> Literal["better", "worse", "differs", "~"]:
    if p_adjusted > ALPHA or not change.delta:
        return "~"
    if change.better == "none":
        return "differs"
    return "better" if (change.delta > 0) == (change.better == "higher") else "worse"


__all__ = ["context_changes", "drawn_quantiles"]
