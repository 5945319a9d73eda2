"""Intervals for gates: the run and its baseline under the same draws of images.

The baseline's per-image statistics stand in for its run, so nothing is matched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.coco_engine import COCO_KEYS
from coordeval.stats.bootstrap import draw_weights, evidence, with_whole
from coordeval.stats.coco_stats import draw_coco
from coordeval.stats.gates_keys import absent_value
from coordeval.stats.image_table import ImageTable, narrowed
from coordeval.stats.packed_matches import unpack_matches
from coordeval.stats.recipe_book import recipes_of
from coordeval.stats.recipes import (
    Constant,
    MeanOfClasses,
    PooledQuantile,
    Total,
    replicate_recipes,
)
from coordeval.stats.replicates import replicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.baseline import Baseline
    from coordeval.stats.recipes import Recipe

NUM_DRAWS = 2000
COCO_DRAWS = 400
SEED = 0
_WHERE_THEY_OCCUR = {"parse/detail/": "detail_", "parse/issue/": "has_issue_"}


class Intervals:
    """95 % intervals of values and of paired changes, by bootstrap over images (seeded).

    None for metrics that no recipe makes from images (they are then judged exactly), and where
    too few draws have a value. COCO numbers use fewer draws (`COCO_DRAWS`).
    """

    def __init__(self, result: ScoreResult, baseline: Baseline | None) -> None:
        self._now = _replicates(result)
        self._base: dict[str, NDArray[np.float64]] = {}
        if baseline is not None:
            self._base = _replicates_of(baseline, result)

    def of_value(self, key: str) -> tuple[float, float] | None:
        """The interval of the run's own value."""
        values = self._now.get(key)
        return None if values is None else _interval(values)

    def of_change(self, key: str) -> tuple[float, float] | None:
        """The interval of run - baseline, image by image."""
        now, base = self._now.get(key), self._base.get(key)
        if now is None or base is None:
            return None
        shared = min(len(now), len(base))
        return _interval(now[:shared] - base[:shared])


def _places(ids: Sequence[str]) -> NDArray[np.int64]:
    """Where each image stands in the order of ids, so that draws agree whatever the run's order."""
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids))
    return place


def _interval(replicates: NDArray[np.float64]) -> tuple[float, float] | None:
    """The percentile interval; the first entry is the value itself, the rest are draws."""
    found = evidence(float(replicates[0]), replicates[1:])
    if found.low is None or found.high is None:
        return None
    return found.low, found.high


class _StoredTable(ImageTable):
    """Per-image columns of a baseline; those that it lacks are 0 throughout."""

    def __init__(self, baseline: Baseline) -> None:
        columns = {name: values for name, values in baseline.per_image.items() if name != "id"}
        self.num_images = len(baseline.per_image["id"])
        self._columns = {
            name: narrowed(np.asarray(values, dtype=np.float64)) for name, values in columns.items()
        }

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return super().__getitem__(name) if name in self else np.zeros(self.num_images)


def _replicates(result: ScoreResult) -> Mapping[str, NDArray[np.float64]]:
    """The run's metrics with every image once, then under each draw."""
    ids = [entry.id for entry in result.columns.images]
    weights = draw_weights(len(ids), NUM_DRAWS, SEED, _places(ids))
    return replicate([result], weights, coco_draws=COCO_DRAWS)[0].values


def _replicates_of(baseline: Baseline, result: ScoreResult) -> dict[str, NDArray[np.float64]]:
    """The baseline's metrics with every image once, then under each draw."""
    ids = baseline.per_image["id"]
    weights = draw_weights(len(ids), NUM_DRAWS, SEED, _places(ids))
    table = _StoredTable(baseline)
    out = replicate_recipes(_recipes(baseline, result), table, weights)
    few = with_whole(weights[:COCO_DRAWS])
    drawn = draw_coco(unpack_matches(baseline.coco_matches), few)
    out |= {f"coco/{key}": drawn[key] for key in COCO_KEYS}
    return {key: values for key, values in out.items() if _agrees(values[0], baseline, key)}


def _recipes(baseline: Baseline, result: ScoreResult) -> dict[str, Recipe]:
    """The run's recipes, which read columns by name, save those that hold data of the run."""
    own = recipes_of(result, ImageTable(result))
    out = {
        key: recipe
        for key, recipe in own.items()
        if not isinstance(recipe, Constant | MeanOfClasses | PooledQuantile)
    }
    for prefix, column in _WHERE_THEY_OCCUR.items():
        for key in baseline.metrics:
            if key.startswith(prefix) and absent_value(key) is not None:
                out[key] = Total(column + key.removeprefix(prefix))
    return out


def _agrees(value: float, baseline: Baseline, key: str) -> bool:
    """No interval is better than one around another number than the stored one."""
    stored = baseline.metrics.get(key)
    if stored is None:
        return absent_value(key) is not None and key not in baseline.metrics
    return bool(np.isclose(value, stored, rtol=1e-9, atol=1e-12))


__all__ = ["COCO_DRAWS", "NUM_DRAWS", "SEED", "Intervals"]
