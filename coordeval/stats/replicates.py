"""Every metric of a run under the same draws: one array of replicates per metric key."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import tie_ranks
from coordeval.metrics.coco_engine import COCO_KEYS
from coordeval.stats.bootstrap import with_whole
from coordeval.stats.coco_stats import draw_coco, run_matches
from coordeval.stats.image_table import ImageTable
from coordeval.stats.lvis_stats import lvis_draws
from coordeval.stats.recipe_book import recipes_of
from coordeval.stats.recipes import replicate_recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.recipes import Recipe

# Which part of COCO's draws is spent on what varies like AP itself.
DEDUP_PART, TIES_PART = 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Per metric key its value with every image once, then one per draw (NaN: no value).

    `columns` names, per key, the per-image columns that the metric is made of (None for COCO's
    numbers, which depend on all detections); `table` holds them.
    """

    values: Mapping[str, NDArray[np.float64]]
    columns: Mapping[str, tuple[str, ...] | None]
    table: ImageTable


def replicate(
    results: Sequence[ScoreResult],
    weights: NDArray[np.integer[Any]],
    *,
    coco_draws: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Replicates]:
    """Replicates for runs over the same images, all under the same `weights` (draws, images).

    COCO numbers get the first `coco_draws` draws, those without exact repeats and AP by size half
    of these, the range over orders of ties a quarter. A recipe that does not give the metric's own
    value with every image once is left out: no interval is better than a wrong one.
    """
    progress("resampling")
    every_key = list(dict.fromkeys(key for result in results for key in result.metrics))
    linear = [_linear(result, weights, every_key) for result in results]
    progress("resampling AP")
    few = with_whole(weights[:coco_draws])
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        waiting = [
            [pool.submit(_coco_family, result, few, family) for family in _families(result)]
            for result in results
        ]
        for part, tasks in zip(linear, waiting, strict=True):
            for task in tasks:
                part.values.update(task.result())
            if "coco_dedup/AP" not in part.values:
                part.values.update(_same_without_repeats(part.values, coco_draws))
        ties = [
            pool.submit(_tie_range, result, few[: 1 + _part(coco_draws, TIES_PART)], part.values)
            for result, part in zip(results, linear, strict=True)
        ]
        for part, task in zip(linear, ties, strict=True):
            part.values.update(task.result())
    return [_checked(result, part) for result, part in zip(results, linear, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linear:
    values: dict[str, NDArray[np.float64]]
    recipes: dict[str, Recipe]
    table: ImageTable


def _linear(
    result: ScoreResult, weights: NDArray[np.integer[Any]], every_key: Sequence[str]
) -> _Linear:
    table = ImageTable(result)
    recipes = recipes_of(result, table, every_key)
    values = replicate_recipes(recipes, table, weights)
    return _Linear(values=values, recipes=recipes, table=table)


def _families(result: ScoreResult) -> list[str]:
    """The COCO families to draw; without exact repeats `coco_dedup` is `coco` once more."""
    families = ["coco"]
    if result.columns.pred.is_copy.any():
        families.append("coco_dedup")
    if "coco_segm/AP" in result.metrics:
        families.append("coco_segm")
    if result.metrics.get("lvis/AP") is not None:
        families.append("lvis")
    return families


def _same_without_repeats(
    values: Mapping[str, NDArray[np.float64]], coco_draws: int
) -> dict[str, NDArray[np.float64]]:
    length = 1 + _part(coco_draws, DEDUP_PART)
    return {f"coco_dedup/{key}": values[f"coco/{key}"][:length] for key in COCO_KEYS}


def _part(draws: int, part: int) -> int:
    return max(2, draws // part)


def _coco_family(
    result: ScoreResult, weights: NDArray[np.integer[Any]], family: str
) -> dict[str, NDArray[np.float64]]:
    if family == "lvis":
        return lvis_draws(result, weights)
    if family == "coco_dedup":
        weights = weights[: 1 + _part(len(weights) - 1, DEDUP_PART)]
    matches = run_matches(result, copies=family != "coco_dedup", masks=family == "coco_segm")
    drawn = draw_coco(matches, weights)
    return {f"{family}/{key}": drawn[key] for key in COCO_KEYS}


def _tie_range(
    result: ScoreResult,
    weights: NDArray[np.integer[Any]],
    known: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """AP_tie_min and AP_tie_max: over the run's own order, the worst and the best found first."""
    pred = result.columns.pred
    scores = result.scores
    kept = scores[pred.class_code != UNKNOWN_CLASS]
    own = known["coco/AP"][: len(weights)]
    values = [own]
    if len(np.unique(kept)) < len(kept):
        best_iou = result.scored.best_iou
        paired = result.scored.aware.times_matched().astype(np.float64)
        for qualities in ([-best_iou], [best_iou, paired]):
            matches = run_matches(result, scores=tie_ranks(scores, qualities), num_areas=1)
            values.append(draw_coco(matches, weights)["AP"])
    return {
        "coco/AP_tie_min": np.min(values, axis=0),
        "coco/AP_tie_max": np.max(values, axis=0),
    }


def _checked(result: ScoreResult, part: _Linear) -> Replicates:
    kept = {}
    for key, values in part.values.items():
        metric = result.metrics.get(key)
        if metric is None:
            # A detail or issue that only another run lists.
            if key not in result.metrics and key.startswith("parse/"):
                kept[key] = values
        elif np.isclose(values[0], float(metric), rtol=1e-9, atol=1e-12):
            kept[key] = values
    columns = {
        key: tuple(part.recipes[key].columns) if key in part.recipes else None for key in kept
    }
    return Replicates(values=kept, columns=columns, table=part.table)


__all__ = ["Replicates", "replicate"]
