"""Errors in bins as people can picture them: pixels and patches of an image of a given size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.coords import DEFAULT_FRAME, CoordFrame, frame_named
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_PATCH_PX = 32
"""Side of what one visual token covers in Qwen2-VL .. Qwen3-VL: 14 or 16 px patches, merged 2 x 2,
so 28 or 32 px."""
MAX_SIDE_PX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelScale:
    """How many pixels one bin spans, and how many pixels a patch."""

    width: int
    height: int
    patch_px: int
    frame: CoordFrame

    def px(self, bins: float) -> tuple[float, float]:
        """A distance in bins, in pixels along x and y: bins / denominator * extent."""
        extent_x, extent_y = self.frame.extents_px(self.width, self.height)
        return (
            bins / self.frame.denominator * extent_x,
            bins / self.frame.denominator * extent_y,
        )

    def patches(self, bins: float) -> tuple[float, float]:
        """The same in units of the patch side."""
        x, y = self.px(bins)
        return x / self.patch_px, y / self.patch_px

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "width": self.width,
            "height": self.height,
            "patch_px": self.patch_px,
            "frame": self.frame.name,
            "px_per_bin": list(self.px(1.0)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InPixels:
    """The last value of a key in bins, and what it is in pixels and patches (x, y)."""

    log: str
    key: str
    bins: float
    px: tuple[float, float]
    patches: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "log": self.log,
            "key": self.key,
            "bins": self.bins,
            "px": list(self.px),
            "patches": list(self.patches),
        }


def parse_image_size(
    text: str, *, patch: int | None = None, frame: str | None = None
) -> PixelScale:
    """Read `WxH` (or one number for a square) and a patch side; ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,7})(?:[xX×](\d{1,7}))?", text.strip())
    if match is None:
        raise ConfigError(f"--image-size {text!r}: write WIDTHxHEIGHT in pixels, say 640x480")
    width = int(match.group(1))
    height = int(match.group(2) or width)
    if not (2 <= width <= MAX_SIDE_PX and 2 <= height <= MAX_SIDE_PX):
        raise ConfigError(f"--image-size {text!r}: each side must be 2 .. {MAX_SIDE_PX:,} pixels")
    patch_px = DEFAULT_PATCH_PX if patch is None else patch
    if patch_px < 1:
        raise ConfigError(f"--patch {patch_px}: a patch has at least 1 pixel")
    return PixelScale(
        width=width, height=height, patch_px=patch_px, frame=frame_named(frame or DEFAULT_FRAME)
    )


def in_pixels(values: Iterable[tuple[str, str, float]], scale: PixelScale) -> list[InPixels]:
    """Convert (log, key, bins) entries, order kept."""
    return [
        InPixels(log=log, key=key, bins=bins, px=scale.px(bins), patches=scale.patches(bins))
        for log, key, bins in values
    ]


__all__ = ["DEFAULT_PATCH_PX", "InPixels", "PixelScale", "in_pixels", "parse_image_size"]
