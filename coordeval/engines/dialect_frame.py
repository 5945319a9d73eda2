"""Which pixels another model's numbers mean, once the checkpoint and the pixel limits are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.coords import frame_named, resized_frame
from coordeval.jsonl import load_json

if TYPE_CHECKING:
    from coordeval.data.pixels import PixelLimits
    from coordeval.parsers.dialects import Dialect

_FILES = ("preprocessor_config.json", "processor_config.json")
LEAST_PIXELS, MOST_PIXELS = 1, 10**12
"""What lifted limits are in the name of a frame."""


def settle_frame(
    dialect: Dialect, *, given: str | None, pixels: PixelLimits | None, checkpoint: str
) -> Dialect:
    """The dialect with the frame that holds in this rollout; coordeval's own stay as they are.

    `given` is the frame that the user names, which wins. Pixels of the resized image are those of
    the limits that are asked for (`pixels`), else of the checkpoint's own image processor, read
    from its folder; where that is not at hand (a hub id, a served model) those of the published
    checkpoints. Raises ConfigError for an unknown frame.
    """
    if not dialect.is_foreign:
        return dialect
    if given is not None:
        return replace(dialect, frame=frame_named(given).name)
    if dialect.frame is None or frame_named(dialect.frame).resize is None:
        return dialect
    factor, low, high = frame_named(dialect.frame).resize or (1, 1, 1)
    factor, low, high = _processor_limits(checkpoint) or (factor, low, high)
    if pixels is not None:
        low = LEAST_PIXELS if pixels.min_pixels is None else pixels.min_pixels
        high = MOST_PIXELS if pixels.max_pixels is None else pixels.max_pixels
    return replace(dialect, frame=resized_frame(factor, low, high).name)


def _processor_limits(folder: str) -> tuple[int, int, int] | None:
    """Factor, least and most pixels of a checkpoint folder's processor; None where unknown."""
    for name in _FILES if folder else ():
        try:
            raw = load_json((Path(folder) / name).read_bytes())
        except (OSError, ValueError):
            continue  # whoever loads the checkpoint says what is wrong with it
        if isinstance(raw, dict) and isinstance(raw.get("image_processor"), dict):
            raw = raw["image_processor"]
        limits = _limits(raw) if isinstance(raw, dict) else None
        if limits is not None:
            return limits
    return None


def _limits(raw: dict[str, Any]) -> tuple[int, int, int] | None:
    size = raw.get("size") if isinstance(raw.get("size"), dict) else {}
    assert isinstance(size, dict)
    low = raw.get("min_pixels") or size.get("shortest_edge")
    high = raw.get("max_pixels") or size.get("longest_edge")
    patch, merge = raw.get("patch_size"), raw.get("merge_size")
    numbers = [low, high, patch, merge]
    if not all(type(number) is int and 0 < number < MOST_PIXELS for number in numbers):
        return None
    return int(patch or 0) * int(merge or 0), int(low or 0), int(high or 0)


__all__ = ["settle_frame"]
