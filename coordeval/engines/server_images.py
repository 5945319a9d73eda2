"""Images on their way to a server: in their final size where that is known here.

A server may refuse other pixel limits than its own, and resizes slightly differently than we do.
So with the checkpoint's image processor at hand images are fitted here, and limits are only sent
where the server would resize again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from coordeval.data.images import load_sample_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from coordeval.data.pixels import PixelLimits
    from coordeval.engines.base import Request

UNLIMITED_PIXELS = 1 << 40


class ImageFitter:
    """Loads images for requests; `processor` is the checkpoint's, None where it is not at hand."""

    def __init__(self, processor: Any, pixels: PixelLimits | None) -> None:
        self._server_processor = processor
        self.processor = copy.deepcopy(processor)  # with the limits of this run
        self._pixels = pixels
        if processor is not None:
            from coordeval.engines.hf_inputs import apply_pixel_limits

            apply_pixel_limits(self.processor, pixels)

    @property
    def always_size(self) -> Mapping[str, int] | None:
        """Limits that go with every request: those asked for, where nothing can be fitted here."""
        if self.processor is not None or self._pixels is None:
            return None
        low = max(1, self._pixels.min_pixels or 0)
        high = max(low, self._pixels.max_pixels or UNLIMITED_PIXELS)
        return {"shortest_edge": low, "longest_edge": high}

    def load(self, request: Request) -> Image.Image:
        """The image as the server shall see it.

        Raises DataError where it is missing or has another size than the dataset says, and
        ValueError where it cannot be fitted to the patch grid.
        """
        image = load_sample_image(request.sample)
        if self.processor is None:
            return image
        from coordeval.engines.image_fit import fit_image

        return fit_image(image, self.processor)

    def size_for(self, fitted: Image.Image) -> Mapping[str, int] | None:
        """Limits to send with a fitted image; None where the server will leave it alone anyway."""
        if self.processor is None:
            return self.always_size
        from coordeval.engines.image_fit import fit_image, passing_size

        if fit_image(fitted, self._server_processor).size == fitted.size:
            return None
        return passing_size(self.processor)


__all__ = ["ImageFitter"]
