"""The size to which Qwen's image processors bring an image before they cut it into patches.

Qwen2.5-VL writes pixels of the image that it sees, not of the image in the file; so its boxes
can only be placed by whoever knows this size.
"""

from __future__ import annotations

import math

LARGEST_RATIO = 200
"""The processors refuse images whose sides differ more."""


def smart_resize(
    width: int, height: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """(width, height) after resizing: multiples of `factor`, between the limits on width * height.

    `factor` is patch size times merge size (28 in Qwen2-VL and Qwen2.5-VL, 32 in Qwen3-VL). The
    arithmetic, Python's rounding of halves to even included, is that of `smart_resize` in
    transformers' `image_processing_qwen2_vl` and in qwen-vl-utils. Never raises and never gives 0;
    an image narrower than 1 : 200, which the processors refuse, is brought there by the same rule.
    """
    wide = round(width / factor) * factor
    high = round(height / factor) * factor
    if wide * high > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        wide = math.floor(width / shrink / factor) * factor
        high = math.floor(height / shrink / factor) * factor
    elif wide * high < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        wide = math.ceil(width * grow / factor) * factor
        high = math.ceil(height * grow / factor) * factor
    return max(factor, wide), max(factor, high)


__all__ = ["LARGEST_RATIO", "smart_resize"]
