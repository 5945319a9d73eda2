"""Recipes re-make every metric, and a draw is the score of a run that is really resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparing import answer, line, make_run, random_lines, record

from coordeval.metrics.protocols import PROTOCOLS
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.stats.image_table import ImageTable
from coordeval.stats.recipe_book import recipes_of
from coordeval.stats.recipes import Draws, PooledQuantile
from coordeval.stats.replicates import replicate

FIXTURES = Path(__file__).parents[2] / "fixtures"
DUMPS = sorted((FIXTURES / "dumps").glob("*.jsonl"))
# Ties arise between copies of an image; the flags of the whole run are resampled instead.
NOT_RESAMPLED = {"score/tied_frac", "coco/AP_tie_min", "coco/AP_tie_max"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.stem)
def test_every_metric_with_a_value_is_resampled(dump, protocol):
    """With every image once the replicates are the metrics themselves, and none is left out."""
    result = score_run(open_run(dump), protocol=PROTOCOLS[protocol])
    weights = np.ones((4, result.columns.num_images), dtype=np.int32)
    (got,) = replicate([result], weights, coco_draws=4)
    for key, value in result.metrics.items():
        if value is None or key.endswith("/(other)"):
            continue
        assert key in got.values, key
        np.testing.assert_allclose(got.values[key], value, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_draw_is_the_score_of_the_resampled_run(tmp_path, protocol):
    """Lines really repeated as often as the draw says give the draw's numbers, all of them."""
    lines = random_lines(24, seed=3)
    weights = np.random.default_rng(0).integers(0, 4, size=24)
    repeated = [
        item | {"id": f"{item['id']}-{copy}"}
        for item, times in zip(lines, weights.tolist(), strict=True)
        for copy in range(times)
    ]
    categories = [{"id": k, "name": n} for k, n in enumerate(("cat", "dog", "kite"), start=1)]
    options = {"protocol": PROTOCOLS[protocol]}
    own = score_run(make_run(tmp_path / "a", lines, categories=categories), **options)
    want = score_run(make_run(tmp_path / "b", repeated, categories=categories), **options)
    (got,) = replicate([own], weights[None].astype(np.int32), coco_draws=1)
    assert not own.columns.record_valid.all() and own.loops and own.duplicates.exact.any()
    for key, values in got.values.items():
        if key in NOT_RESAMPLED:
            continue
        value = want.metrics.get(key, 0)
        expected = np.nan if value is None else value
        np.testing.assert_allclose(values[1], expected, rtol=1e-12, atol=1e-12, err_msg=key)


def test_a_recipe_that_misses_the_metric_gives_no_interval(tmp_path):
    """A metric that its recipe does not re-make is left out rather than judged wrongly."""
    result = score_run(make_run(tmp_path / "a", random_lines(8, seed=1)))
    result.metrics["parse/drop_rate"] = 0.123
    (got,) = replicate([result], np.ones((2, 8), dtype=np.int32), coco_draws=2)
    assert "parse/drop_rate" not in got.values
    assert "dup/exact_rate" in got.values


def test_sums_over_images_reconcile_with_the_run(tmp_path):
    """Columns of the table add up to the counts of the run."""
    result = score_run(make_run(tmp_path / "a", random_lines(16, seed=2)))
    table = ImageTable(result)
    assert table["drops"].sum() == result.metrics["parse/dropped_invalid"]
    assert table["one"].sum() == 16
    recipes = recipes_of(result, table)
    assert set(recipes["f1/0.50/f1"].columns) == {"tp@0.50", "fp@0.50", "fn@0.50"}


def test_a_pooled_quantile_is_that_of_the_drawn_values():
    """Over many values per image, also where the draw leaves out all of the small ones."""
    rng = np.random.default_rng(4)
    image = rng.integers(0, 40, size=3000)
    values = rng.random(3000) + 5 * (image >= 3)  # the lowest ones stand on three images
    order = np.argsort(values, kind="stable")
    weights = rng.integers(0, 3, size=(30, 40)).astype(float)
    weights[:10, :3] = 0
    weights[10] = 0
    recipe = PooledQuantile(values[order], image[order], 0.05, ())
    draws = Draws(table=None, weights=weights, sums=np.zeros((30, 0)), place={})
    for got, row in zip(recipe.values(draws), weights, strict=True):
        drawn = np.repeat(values, row[image].astype(int))
        want = np.quantile(drawn, 0.05) if len(drawn) else np.nan
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_masks_of_many_predictions_are_resampled(tmp_path):
    """More than 255 predictions, one of them a polygon, have their mask AP resampled as well."""
    outline = [100.0, 100.0, 400.0, 100.0, 250.0, 400.0]
    points = ", ".join(f"<|coord_{k:.0f}|>" for k in outline)
    text = answer(f'{{"desc": "cat", "poly": [{points}]}}', *[record("cat", (0, 0, 9, 9))] * 299)
    item = line("a", [], text) | {"gt": [{"desc": "cat", "poly": outline}]}
    result = score_run(make_run(tmp_path / "run", [item]))
    (got,) = replicate([result], np.ones((4, 1), dtype=np.int32), coco_draws=4)
    for key in ("coco_segm/AP", "coco_segm/APl"):
        np.testing.assert_allclose(got.values[key], result.metrics[key], atol=1e-12, err_msg=key)
