"""Fitting an image beforehand changes nothing for Hugging Face, and is final."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from coordeval.data.pixels import PixelLimits  # noqa: E402
from coordeval.engines.hf_inputs import apply_pixel_limits  # noqa: E402
from coordeval.engines.image_fit import fit_image, image_token_count, passing_size  # noqa: E402

BASE = transformers.Qwen2VLImageProcessorPil(
    patch_size=8, merge_size=2, size={"shortest_edge": 4096, "longest_edge": 9216}
)
LIMITS = st.sampled_from(
    [
        None,
        PixelLimits(),
        PixelLimits(max_pixels=5000),
        PixelLimits(min_pixels=30_000),
        PixelLimits(min_pixels=10_000, max_pixels=10_000),
    ]
)


def noise(width, height):
    draw = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8))


@given(width=st.integers(1, 500), height=st.integers(1, 500), limits=LIMITS)
def test_a_fitted_image_gives_the_same_patches(width, height, limits):
    """Patches are equal to the last bit, their number is foretold, and fitting twice is once."""
    if max(width, height) > 200 * min(width, height):
        return
    processor = copy.deepcopy(BASE)
    apply_pixel_limits(processor, limits)
    image = noise(width, height)
    expected = processor(images=[image], return_tensors="pt")
    fitted = fit_image(image, processor)
    passing = copy.deepcopy(processor)
    size = passing_size(processor)
    passing.size = type(passing.size)(**size)
    assert fit_image(fitted, passing).size == fitted.size
    found = passing(images=[fitted], return_tensors="pt")
    assert torch.equal(found["image_grid_thw"], expected["image_grid_thw"])
    assert torch.equal(found["pixel_values"], expected["pixel_values"])
    assert image_token_count(fitted, processor) == int(expected["image_grid_thw"].prod()) // 4


def test_impossible_shapes_are_refused():
    """An image 201 times as wide as high has no patch grid."""
    with pytest.raises(ValueError, match="aspect ratio"):
        fit_image(noise(402, 2), BASE)


def test_the_prepared_size_is_bounded():
    """Without limits an engine does not prepare for images that no memory holds."""
    processor = copy.deepcopy(BASE)
    apply_pixel_limits(processor, PixelLimits())
    assert passing_size(processor)["longest_edge"] == 1 << 24
    assert passing_size(processor, most_tokens=100)["longest_edge"] == 100 * 256
