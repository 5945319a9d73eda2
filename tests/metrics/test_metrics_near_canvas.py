"""Masks of polygons that leave their canvas by far."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_api

from coordeval.metrics.iou import polygon_rle
from coordeval.metrics.near_canvas import MARGIN_PX, near_canvas

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
WIDTH, HEIGHT = 160, 120


def drawn(flat):
    """The mask as an array of bool (HEIGHT, WIDTH)."""
    return mask_api.decode(polygon_rle(flat, WIDTH, HEIGHT)).astype(bool)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_seen_is_what_pycocotools_draws_of_the_whole(seed):
    """Vertices up to 60,000 px off, which it can still draw: the same but for pixels of the rim."""
    rng = np.random.default_rng(seed)
    spread = float(rng.choice([6_000.0, 60_000.0]))
    inside = rng.uniform(0, [WIDTH, HEIGHT], (2, 2))
    far = rng.uniform(-spread, spread, (rng.integers(1, 5), 2))
    far[0, seed % 2] = spread
    flat = rng.permutation(np.concatenate([inside, far])).ravel().tolist()
    [whole] = mask_api.frPyObjects([flat], HEIGHT, WIDTH)
    assert max(map(abs, near_canvas(flat, WIDTH, HEIGHT))) <= MARGIN_PX + WIDTH
    differ = drawn(flat) != mask_api.decode(whole).astype(bool)
    assert differ.sum() <= 2 * (WIDTH + HEIGHT) // 10


@pytest.mark.parametrize("far", [1e6, 1e9, 1e52, 1e300, 1.7e308])
def test_any_number_is_drawn(far):
    """Bands and corners whose masks are known; none takes the time or memory of its length."""
    band = np.zeros((HEIGHT, WIDTH), dtype=bool)
    band[4:51, 77:] = True
    seen = drawn([77, 4, far, 4, far, 51, 77, 51])
    assert np.array_equal(seen, band)
    assert drawn([-far, -far, far, -far, far, far, -far, far]).all()
    half = drawn([-far, -far, far, far, -far, far])  # below the diagonal
    rows, columns = np.indices((HEIGHT, WIDTH))
    assert half[rows > columns + 1].all()
    assert not half[rows < columns - 1].any()
    assert not drawn([far, far, 2 * MARGIN_PX + far, far, far, -MARGIN_PX]).any()


def test_near_ones_stay_as_they_are():
    """A polygon that leaves its canvas as labels do is not touched, number by number."""
    flat = [-MARGIN_PX, 3, WIDTH + MARGIN_PX, 7.25, 5, HEIGHT + MARGIN_PX]
    assert near_canvas(flat, WIDTH, HEIGHT) == flat
    assert near_canvas([], WIDTH, HEIGHT) == []
