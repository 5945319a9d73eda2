"""How many pixels of an image a model may see: the checkpoint's own limits, none, or given ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from coordeval.errors import ConfigError

_RANGE_RE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLimits:
    """Limits on width * height of an image before it is cut into patches; None is no limit.

    An image within the limits keeps its size up to rounding its sides to the patch grid; one
    outside is scaled, aspect ratio kept, until it fits.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Both limits as plain data, as run.json stores them."""
        return {"min": self.min_pixels, "max": self.max_pixels}


def parse_pixels(text: str | None) -> PixelLimits | None:
    """Read `--pixels`: None (not given) keeps the checkpoint's own limits and gives None.

    `none` lifts both limits; `MIN:MAX` sets them (either side may be left empty: no limit).
    Raises ConfigError for anything else, for zero, and for MIN above MAX.
    """
    if text is None:
        return None
    stripped = text.strip()
    if stripped.lower() == "none":
        return PixelLimits()
    match = _RANGE_RE.fullmatch(stripped)
    if match is None or stripped == ":" or not stripped.isascii():
        raise ConfigError(
            f"--pixels {text!r}: write none, or MIN:MAX in pixels (say 65536:1048576)"
        )
    low, high = (int(part) if part else None for part in match.groups())
    if low == 0 or high == 0:
        raise ConfigError(f"--pixels {text!r}: a limit must be at least 1 pixel")
    if low is not None and high is not None and low > high:
        raise ConfigError(f"--pixels {text!r}: MIN is above MAX")
    return PixelLimits(min_pixels=low, max_pixels=high)


__all__ = ["PixelLimits", "parse_pixels"]
