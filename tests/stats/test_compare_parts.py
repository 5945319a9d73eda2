"""Comparisons work in parts: whatever fits into one, the numbers are the same in every bit."""

from __future__ import annotations

import numpy as np
import pytest
from comparing import answer, line, make_run, random_lines

from coordeval.metrics.masks import Masks
from coordeval.metrics.score import score_run
from coordeval.stats import (
    bootstrap,
    changes,
    coco_draws,
    coco_matches,
    image_table,
    packed_matches,
    recipes,
    slices,
)
from coordeval.stats.baseline import make_baseline
from coordeval.stats.bootstrap import draw_weights, weighted_sums
from coordeval.stats.coco_stats import draw_coco, run_matches
from coordeval.stats.comparison import CompareOptions, compare_runs
from coordeval.stats.packed_matches import pack_matches, unpack_matches

OPTIONS = CompareOptions(draws=120, coco_draws=24)
PARTS = (
    (coco_matches, "PART_DETECTIONS"),
    (coco_draws, "PART_HITS"),
    (changes, "IMAGES_AT_ONCE"),
    (slices, "PART_OBJECTS"),
    (recipes, "ROWS_AT_ONCE"),
    (packed_matches, "ROWS_AT_ONCE"),
    (image_table, "CELLS_AT_ONCE"),
    (bootstrap, "DRAWS_AT_ONCE"),
)


def with_polygons(lines):
    """Every object a triangle as well: in the ground truth, and where the answer holds one."""
    for number, item in enumerate(lines):
        for shift, obj in enumerate(item["gt"][:2]):
            x1, y1, x2, y2 = obj.pop("bbox_2d")
            obj["poly"] = [x1, y1, x2, y1, x2, y2]
            points = [min(int(v) + (number + shift) % 9, 999) for v in obj["poly"]]
            inner = ", ".join(f"<|coord_{k}|>" for k in points)
            new = f'{{"desc": "{obj["desc"]}", "poly": [{inner}]}}, {{"desc"'
            item["text"] = item["text"].replace('{"desc"', new, 1)
            item.pop("token_ids", None)
    return lines


@pytest.mark.parametrize("part", [1, 5])
def test_parts_of_any_size_give_the_same_comparison(part, tmp_path, monkeypatch):
    """However few images, detections, hits, columns or draws go through at once."""
    runs = [
        make_run(tmp_path / name, with_polygons(random_lines(24, seed=seed)))
        for name, seed in (("a", 1), ("b", 2))
    ]
    want = compare_runs(runs, OPTIONS).to_json()
    baseline = make_baseline(score_run(runs[0]), name="x")
    intervals = want["comparisons"][0]["metrics"]
    assert intervals["coco_segm/AP"]["low"] < intervals["coco_segm/AP"]["high"]
    for module, name in PARTS:
        monkeypatch.setattr(module, name, part)
    assert compare_runs(runs, OPTIONS).to_json() == want
    assert make_baseline(score_run(runs[0]), name="x") == baseline


def test_a_packed_match_table_draws_the_same_numbers(tmp_path):
    """Also without detections, and without anything at all."""
    rng = np.random.default_rng(0)
    for name, lines in (
        ("many", random_lines(20, seed=3)),
        ("silent", [line("a", [("cat", 1, 1, 90, 90)], answer())]),
        ("empty", [line("a", [], answer())]),
    ):
        matches = run_matches(score_run(make_run(tmp_path / name, lines)))
        weights = rng.integers(0, 3, (5, len(lines)))
        again = unpack_matches(pack_matches(matches))
        for key, values in draw_coco(matches, weights).items():
            np.testing.assert_array_equal(draw_coco(again, weights)[key], values, err_msg=key)


def test_a_run_with_hundreds_of_polygons_is_compared(tmp_path):
    """More masks than a byte counts: their areas are those of the triangles."""
    points = [(k, 0, k + 40, 0, k + 40, 40) for k in range(300)]
    polygons = [
        f'{{"desc": "cat", "poly": [{", ".join(f"<|coord_{v}|>" for v in flat)}]}}'
        for flat in points
    ]
    lines = [line("a", [], answer(*polygons)), line("b", [("cat", 1, 1, 9, 9)], answer())]
    lines[0]["gt"] = [{"desc": "cat", "poly": list(points[0])}]
    runs = [make_run(tmp_path / name, lines) for name in "ab"]
    columns = score_run(runs[0]).columns
    areas = Masks(columns.pred.shapes, columns.sizes_wh, np.arange(300)).areas()
    assert areas == pytest.approx(np.full(300, 40 * 40 / 2), rel=0.1)
    metrics = compare_runs(runs, OPTIONS).versus[0].changes
    assert metrics["coco_segm/AP"].delta == 0


def test_a_weight_takes_a_byte_unless_it_does_not_fit(monkeypatch):
    """An image that is drawn 300 times keeps its weight; sums under weights never wrap."""
    assert draw_weights(50, 10, 0).dtype == np.uint8

    class Always:
        def integers(self, low, high, size):
            del low, high
            return np.zeros(size, dtype=np.int64)

    monkeypatch.setattr(bootstrap.np.random, "default_rng", lambda _: Always())
    weights = draw_weights(300, 3, 0)
    assert weights[:, 0].tolist() == [300] * 3
    assert weights.sum(axis=1).tolist() == [300] * 3


def test_sums_under_small_weights_are_whole():
    """Counts times weights of one byte go far beyond a byte."""
    from scipy import sparse

    rng = np.random.default_rng(1)
    table = rng.integers(0, 200, (40, 6))
    weights = rng.integers(0, 256, (37, 40)).astype(np.uint8)
    sums = weighted_sums(weights, sparse.csr_array(table))
    assert np.array_equal(sums, weights.astype(np.int64) @ table)


def test_counts_of_a_table_are_held_small_and_given_whole():
    """Whatever is held in fewer bytes comes back as the float that it was."""
    for values in ([0, 1, 127], [-129, 5], [40_000, 0], [2**31, 1], [0.5, 1], [np.nan, 1], []):
        column = np.array(values, dtype=np.float64)
        held = image_table.narrowed(column)
        np.testing.assert_array_equal(held.astype(np.float64), column)
    assert image_table.narrowed(np.array([0.0, 127.0])).itemsize == 1
