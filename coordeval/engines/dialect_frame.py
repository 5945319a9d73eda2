"""Which pixels another model's numbers mean, once the checkpoint and the pixel limits are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval.coords import frame_named, resized_frame
from coordeval.jsonl import load_document

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.data.pixels import PixelLimits
    from coordeval.parsers.dialects import Dialect

Grid = tuple[int, int, int]
"""Factor (patch size times merge size), least and most pixels of an image processor."""
# What transformers' Qwen2VLImageProcessor takes where its file says nothing.
_UNSAID = {"patch_size": 14, "merge_size": 2, "min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}
MOST_PIXELS = 10**12 - 1
"""What a lifted limit is in the name of a frame."""


def settle_frame(
    dialect: Dialect, *, given: str | None, pixels: PixelLimits | None, processor: Grid | None
) -> Dialect:
    """The dialect with the frame that holds in this rollout; coordeval's own stay as they are.

    `given` is the frame that the user names, which wins. Pixels of the resized image are those of
    the limits that are asked for (`pixels`), else of the checkpoint's own image `processor`; where
    that is not at hand (a served model) those of the published checkpoints. Without a lower limit
    an image still gets one cell of the grid. Raises ConfigError for an unknown frame.
    """
    if not dialect.is_foreign:
        return dialect
    if given is not None:
        return replace(dialect, frame=frame_named(given).name)
    if dialect.frame is None or frame_named(dialect.frame).resize is None:
        return dialect
    published = frame_named(dialect.frame).resize or (1, 1, 1)
    factor, low, high = processor or published
    if pixels is not None:
        low = max(factor * factor, pixels.min_pixels or 0)
        high = max(low, pixels.max_pixels or MOST_PIXELS)
    return replace(dialect, frame=resized_frame(factor, low, high).name)


def processor_grid(folder: Path) -> Grid | None:
    """What the image processor of a checkpoint folder says; None where there is none to read.

    As transformers reads it: the part of processor_config.json goes before the file of its own.
    """
    whole = _mapping(folder / "processor_config.json").get("image_processor")
    raw = whole if isinstance(whole, dict) else _mapping(folder / "preprocessor_config.json")
    size = raw.get("size", {})
    if not raw or not isinstance(size, dict):
        return None
    sides = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    said = [{k: v for k, v in part.items() if v is not None} for part in (sides, raw)]
    found = _UNSAID | said[0] | said[1]
    return checked_grid(**{name: found[name] for name in _UNSAID})


def checked_grid(
    *, patch_size: object, merge_size: object, min_pixels: object, max_pixels: object
) -> Grid | None:
    """The grid of those numbers; None where they make none."""
    numbers = (patch_size, merge_size, min_pixels, max_pixels)
    whole = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
    if len(whole) < len(numbers) or not all(0 < number <= MOST_PIXELS for number in whole):
        return None
    patch, merge, low, high = whole
    return patch * merge, low, high


def _mapping(path: Path) -> dict[str, Any]:
    try:
        raw = load_document(path)
    except (OSError, ValueError):
        return {}  # whoever loads the checkpoint says what is wrong with it
    return raw if isinstance(raw, dict) else {}


__all__ = ["Grid", "checked_grid", "processor_grid", "settle_frame"]
