"""Resizing an image for a model before another program sees it.

Image processors differ slightly where they resize (PIL against torchvision: up to 0.008 of the
pixel range), but not where they have nothing to resize. So the image is brought to its final size
here, by the same PIL processor that the Hugging Face engine uses, and all engines see equal pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

# What any fitted image passes through unchanged; 16 million pixels are 16,384 image tokens.
LARGEST_PIXELS = 1 << 24
_LARGEST_RATIO = 200


def fit_image(image: Image.Image, image_processor: Any) -> Image.Image:
    """The image in the size in which `image_processor` cuts it into patches.

    Raises ValueError where the image cannot be fitted to the patch grid (aspect ratio above 200).
    """
    if not image_processor.do_resize:
        return image
    pixels_HWC = np.asarray(image)  # noqa: N806 - shape suffix
    fitted = image_processor.resize(
        pixels_HWC.transpose(2, 0, 1),
        size=image_processor.size,
        resample=image_processor.resample,
        factor=image_processor.patch_size * image_processor.merge_size,
    )
    return Image.fromarray(np.ascontiguousarray(np.asarray(fitted).transpose(1, 2, 0)))


def image_token_count(fitted: Image.Image, image_processor: Any) -> int:
    """How many image tokens a fitted image becomes."""
    cell = image_processor.patch_size * image_processor.merge_size
    return int((fitted.width // cell) * (fitted.height // cell))


def passing_size(image_processor: Any, *, most_tokens: int | None = None) -> dict[str, int]:
    """Limits (`size` of Qwen's processors) under which no fitted image is resized again.

    The upper one also says how large an image an engine prepares for, so it is bounded: by
    `LARGEST_PIXELS`, and by `most_tokens` image tokens where that is given.
    """
    side = image_processor.patch_size * image_processor.merge_size
    low, high = image_processor.size["shortest_edge"], image_processor.size["longest_edge"]
    bound = LARGEST_PIXELS if most_tokens is None else min(LARGEST_PIXELS, most_tokens * side**2)
    # Rounding up to whole cells may carry an enlarged image past the limits, at most fourfold; a
    # narrow one (sides of up to 1 to 200 are taken) stays one cell wide, however small the limit.
    needed = max(high, 4 * low, math.ceil(side * math.sqrt(_LARGEST_RATIO * high)))
    return {"shortest_edge": side**2, "longest_edge": max(side**2, min(needed, bound))}


__all__ = ["LARGEST_PIXELS", "fit_image", "image_token_count", "passing_size"]
