"""Dataset statistics, token budget and the ceiling of the grid, against closed forms."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.coords import FRAMES
from coordeval.data.canonical import sample_text
from coordeval.data.ceiling import grid_ceiling
from coordeval.data.dataset import open_dataset
from coordeval.data.geometry import area_px, is_degenerate, polygon_area_px
from coordeval.data.stats import dataset_stats, near_duplicates
from coordeval.data.token_budget import estimate_tokens, token_budget
from coordeval.parsers.dialects import DIALECTS, dialect_named
from coordeval.records import Category, GroundTruthObject, Sample

DATA = os.environ.get("COORDEVAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="COORDEVAL_DATA is not set")


def _box(desc, *values, **more):
    return GroundTruthObject(desc, "bbox_2d", tuple(map(float, values)), **more)


def _sample(*objects, name="a", width=1000, height=1000):
    return Sample(id=name, image=name, width=width, height=height, objects=tuple(objects))


class FakeTokenizer:
    """One token per coordinate token, one per other character."""

    def __call__(self, texts, add_special_tokens):
        assert add_special_tokens is False
        return {"input_ids": [list(range(self.length(text))) for text in texts]}

    @staticmethod
    def length(text):
        import re

        return len(re.sub(r"<\|coord_\d+\|>", "C", text))


def test_counts_and_spreads():
    """Objects per image, sizes at COCO's borders, classes, crowd, empties and extentless objects."""
    stats = dataset_stats(
        [
            _sample(
                _box("cat", 0, 0, 31, 33),
                _box("cat", 0, 0, 32, 32),
                _box("dog", 0, 0, 96, 96),
                _box("dog", 5, 5, 5, 9),
                _box("dog", 0, 0, 900, 900, iscrowd=True),
                GroundTruthObject("road", "line", (0.0, 0.0, 5.0, 5.0)),
            ),
            _sample(name="b"),
        ],
        [Category(id=1, name="cat"), Category(id=2, name="owl")],
    )
    assert (stats.images, stats.empty_images, stats.objects, stats.crowd) == (2, 1, 5, 1)
    assert (stats.degenerate, stats.geometries) == (1, {"bbox_2d": 4, "line": 1})
    assert stats.sizes == {"small": 1, "medium": 1, "large": 1}
    assert stats.classes == {"cat": 2, "dog": 2, "road": 1}
    assert stats.unused_classes == ("owl",)
    assert (stats.objects_per_image.mean, stats.objects_per_image.max) == (2.5, 5)
    assert stats.relative_area.max == pytest.approx(96 * 96 / 1e6)


def test_the_area_of_the_dataset_decides_the_size():
    """A thin object in a large box is small where the dataset's mask area says so."""
    stats = dataset_stats([_sample(_box("x", 0, 0, 500, 500, area=10.0))])
    assert stats.sizes == {"small": 1, "medium": 0, "large": 0}


def test_duplicates_exact_and_near():
    """An exact copy is not near as well; another class or IoU below .9 is neither."""
    box = _box("cat", 0, 0, 100, 100)
    objects = [
        box,
        box,
        box,
        _box("CAT ", 0, 0, 100, 91),  # IoU .91, same normalised name
        _box("cat", 0, 0, 100, 89),  # IoU .89 with the first, .978 with the one before
        _box("cat", 0, 0, 100, 40),
        _box("dog", 0, 0, 100, 100),
    ]
    stats = dataset_stats([_sample(*objects)])
    assert (stats.exact_duplicates, stats.near_duplicates) == (2, 2)
    assert near_duplicates([]) == 0


def test_an_empty_dataset_gives_zeros_and_no_value():
    """Nothing in, nothing out: no NaN, no division by zero."""
    stats = dataset_stats([])
    assert (stats.images, stats.objects, stats.objects_per_image) == (0, 0, None)
    ceiling = grid_ceiling([_sample()])
    assert (ceiling.num_boxes, ceiling.ap, ceiling.mean_iou) == (0, None, None)
    budget = token_budget([])
    assert (budget.num_samples, budget.max, budget.recommended_max_new_tokens) == (0, None, None)


@given(
    st.floats(-1e4, 1e4),
    st.floats(-1e4, 1e4),
    st.floats(0.5, 1e3),
    st.floats(0.5, 1e3),
    st.booleans(),
)
def test_polygon_area_is_that_of_the_rectangle(x, y, w, h, clockwise):
    """The shoelace area of a rectangle is w * h in either direction."""
    points = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    flat = [value for point in (points if clockwise else points[::-1]) for value in point]
    assert polygon_area_px(flat) == pytest.approx(w * h, rel=1e-6)
    polygon = GroundTruthObject("x", "poly", tuple(flat))
    assert not is_degenerate(polygon)
    assert area_px(polygon) == pytest.approx(w * h, rel=1e-6)


def test_extentless_geometries():
    """Inverted boxes, polygons on a line and lines of one point have no extent."""
    assert is_degenerate(_box("x", 5, 5, 3, 9))
    assert is_degenerate(GroundTruthObject("x", "poly", (0.0, 0.0, 5.0, 5.0, 9.0, 9.0)))
    assert is_degenerate(GroundTruthObject("x", "line", (3.0, 3.0, 3.0, 3.0)))
    assert not is_degenerate(GroundTruthObject("x", "line", (3.0, 3.0, 3.0, 4.0)))
    assert area_px(_box("x", 5, 5, 3, 3)) == 0.0


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("field_order", ["desc_first", "geometry_first"])
def test_the_budget_counts_the_canonical_text_and_the_end_token(dialect, field_order):
    """Every answer is counted as it would be written, plus one token for its end."""
    written = dialect_named(dialect, field_order=field_order)
    samples = [_sample(*[_box("cat", 1, 2, 30, 40)] * n, name=str(n)) for n in range(40)]
    lengths = [
        FakeTokenizer.length(
            sample_text(sample, dialect=written, frame=FRAMES["coordexp"], order="sorted")
        )
        + 1
        for sample in samples
    ]
    budget = token_budget(samples, FakeTokenizer(), dialect=written)
    assert (budget.max, budget.num_samples, budget.estimated) == (max(lengths), 40, False)
    assert budget.mean == pytest.approx(np.mean(lengths))
    assert budget.p90 == pytest.approx(np.percentile(lengths, 90))
    assert budget.recommended_max_new_tokens >= max(256, max(lengths) * 1.5)
    assert budget.recommended_max_new_tokens % 64 == 0


def test_the_estimate_grows_with_what_is_written():
    """More objects, longer names, more points, quotes: never fewer tokens; crowd costs none."""
    plain = DIALECTS["coordjson"]
    one = estimate_tokens([_box("cat", 0, 0, 1, 1)], plain)
    assert estimate_tokens([], plain) < one
    assert estimate_tokens([_box("a very long description", 0, 0, 1, 1)], plain) > one
    assert estimate_tokens([GroundTruthObject("cat", "poly", (0.0,) * 20)], plain) > one
    assert estimate_tokens([_box("cat", 0, 0, 1, 1)], DIALECTS["coordjson-quoted"]) > one
    assert estimate_tokens([_box("cat", 0, 0, 1, 1, iscrowd=True)], plain) == estimate_tokens(
        [], plain
    )
    assert token_budget([_sample(_box("cat", 0, 0, 1, 1))]).max == one + 1


def test_a_grid_of_whole_pixels_costs_nothing():
    """In a 1000 x 1000 image every whole pixel is a bin: the ceiling is 1."""
    samples = [
        _sample(_box("cat", 10, 20, 300, 400), _box("dog", 5, 5, 8, 9), name=str(n))
        for n in range(3)
    ]
    ceiling = grid_ceiling(samples)
    assert (ceiling.num_boxes, ceiling.widened) == (6, 0)
    for value in (ceiling.ap, ceiling.ap75, ceiling.ap95, ceiling.mean_iou, ceiling.min_iou):
        assert value == pytest.approx(1.0)
    assert ceiling.below_95 == 0.0


def test_small_objects_in_large_images_pay():
    """One box of known IoU with its bins: AP is the share of the thresholds that it reaches."""
    # One bin is 10 px in this image; 12..28 becomes 10..30, IoU 16^2 / 20^2 = .64.
    sample = _sample(_box("cat", 12, 12, 28, 28), width=9991, height=9991)
    ceiling = grid_ceiling([sample])
    assert ceiling.mean_iou == ceiling.min_iou == pytest.approx(0.64)
    assert ceiling.ap == pytest.approx(3 / 10)  # .50, .55, .60
    assert (ceiling.ap75, ceiling.ap95, ceiling.below_95) == (0.0, 0.0, 1.0)


def test_hostile_numbers_and_names_give_numbers():
    """Half emojis, absurd areas and coordinates that overflow give no crash and no NaN."""
    samples = [
        _sample(
            _box("\ud83d", 10, 10, 50, 50, area=1e30),
            _box("x", -1e200, -1e200, 1e200, 1e200),
            _box("y", 10, 10, 50, 50, area=-1.0),
        )
    ]
    ceiling = grid_ceiling(samples)
    for value in (ceiling.ap, ceiling.ap75, ceiling.ap95, ceiling.mean_iou, ceiling.min_iou):
        assert 0.0 <= value <= 1.0
    assert np.isfinite(dataset_stats(samples).relative_area.max)


def test_crowd_lines_and_extentless_objects_are_no_part_of_the_ceiling():
    """What is not scored does not lower the ceiling."""
    ceiling = grid_ceiling(
        [
            _sample(
                _box("cat", 10, 10, 50, 50),
                _box("cat", 12.3, 12.3, 14.7, 14.7, iscrowd=True),
                _box("cat", 5, 5, 5, 5),
                GroundTruthObject("cat", "line", (0.0, 0.0, 5.5, 5.5)),
            )
        ]
    )
    assert (ceiling.num_boxes, ceiling.ap) == (1, pytest.approx(1.0))


@needs_data
@pytest.mark.data
def test_bccd_statistics():
    """Mean 13.4 objects an image, at most 30, two without extent; the grid costs under 1 % AP."""
    root = Path(DATA) / "bccd"
    dataset = open_dataset(root / "instances_all.json", need_images=False)
    stats = dataset_stats(dataset, dataset.categories)
    assert (stats.images, stats.objects, stats.degenerate) == (364, 4888, 2)
    assert stats.objects_per_image.mean == pytest.approx(4888 / 364)
    assert stats.objects_per_image.max == 30
    assert sum(stats.classes.values()) == sum(stats.sizes.values()) + 2 == 4888
    ceiling = grid_ceiling(dataset)
    assert ceiling.num_boxes == 4886
    assert 0.99 < ceiling.ap <= 1.0


@needs_data
@pytest.mark.data
def test_the_ceiling_is_the_same_with_pycocotools(monkeypatch):
    """The fast engine and the reference give the same ceiling on real ground truth."""
    from pycocotools import coco, cocoeval

    from coordeval.data import ceiling

    path = Path(DATA) / "coco_val2017_subset" / "instances_val2017_subset.json"
    samples = list(open_dataset(path, need_images=False))
    fast = grid_ceiling(samples)
    monkeypatch.setattr(ceiling, "_coco_classes", lambda: (coco.COCO, cocoeval.COCOeval))
    assert grid_ceiling(samples) == fast
