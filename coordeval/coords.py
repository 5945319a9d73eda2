"""The bin grid: coordinate tokens <-> bins <-> pixels.

K = 1000 bins, 0..999. A frame says what a bin means in pixels; every frame is linear, so it is
fully described by a denominator, an extent per axis, and where inside its bin a point lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coordeval.errors import CheckpointError, ConfigError
from coordeval.resizing import smart_resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUM_BINS = 1000
MAX_BIN = NUM_BINS - 1
COORD_TOKEN_RE = re.compile(r"<\|coord_(0|[1-9][0-9]{0,2})\|>")

Rounding = Literal["nearest", "outward"]


def coord_token(bin_index: int) -> str:
    """Text of the coordinate token of one bin; ValueError outside 0..999."""
    if not 0 <= bin_index <= MAX_BIN:
        raise ValueError(f"bin {bin_index} is outside 0..{MAX_BIN}")
    return f"<|coord_{bin_index}|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordFrame:
    """What a bin means: pixel = (bin + offset) / denominator * extent(width, height).

    `extent` is `size_minus_one` (the first bin is the first pixel, the last bin the last pixel),
    `size`, `longer_side` (the image is padded to a square at the right and the bottom), `pixel`
    (numbers are pixels of the image), or `resized` (numbers are pixels of the image as a
    processor resized it: `resize` holds its factor, least and most pixels, see `smart_resize`).
    """

    name: str
    denominator: int
    extent: Literal["size_minus_one", "size", "longer_side", "pixel", "resized"]
    offset: float = 0.0
    resize: tuple[int, int, int] | None = None

    def extents_px(self, width: int, height: int) -> tuple[float, float]:
        """Pixels that `denominator` bins span along x and y."""
        if self.extent == "longer_side":
            side = float(max(width, height))
            return side, side
        if self.extent == "pixel":
            return 1.0, 1.0
        if self.resize is not None:
            resized_width, resized_height = smart_resize(width, height, *self.resize)
            return width / resized_width, height / resized_height
        if self.extent == "size":
            return float(width), float(height)
        return float(width - 1), float(height - 1)

    def to_pixels(
        self, bins_xy: Sequence[float] | NDArray[Any], width: int, height: int
    ) -> NDArray[np.float64]:
        """Bins to pixels; the last axis alternates x, y; shapes are kept, empty stays empty."""
        pixels = np.array(bins_xy, dtype=np.float64) + self.offset
        extent_x, extent_y = self.extents_px(width, height)
        pixels[..., 0::2] *= extent_x
        pixels[..., 1::2] *= extent_y
        # Divided last, so that a bin that is a whole pixel gives exactly that pixel.
        return pixels / self.denominator

    def to_bins(
        self, values_px: Sequence[float] | NDArray[Any], width: int, height: int
    ) -> NDArray[np.float64]:
        """Pixels to real-valued bins, unrounded and unclamped; an axis of extent 0 maps to 0."""
        values = np.asarray(values_px, dtype=np.float64)
        bins = values * self.denominator
        for axis, extent in enumerate(self.extents_px(width, height)):
            if extent > 0:
                bins[..., axis::2] /= extent
            else:
                bins[..., axis::2] = 0.0
        return bins - self.offset


FRAMES: dict[str, CoordFrame] = {
    "coordexp": CoordFrame(name="coordexp", denominator=999, extent="size_minus_one"),
    "unit-1000": CoordFrame(name="unit-1000", denominator=1000, extent="size"),
    "unit-999": CoordFrame(name="unit-999", denominator=999, extent="size"),
    "square-1000": CoordFrame(name="square-1000", denominator=1000, extent="longer_side"),
}
DEFAULT_FRAME = "coordexp"

FOREIGN_FRAMES: dict[str, CoordFrame] = {
    "centre-1000": CoordFrame(name="centre-1000", denominator=1000, extent="size", offset=0.5),
    "pixels": CoordFrame(name="pixels", denominator=1, extent="pixel"),
}
"""Frames of other models' numbers, which need not be 0..999 and have no coordinate tokens."""

_UNIT = re.compile(r"unit-([1-9]\d{0,9})", re.ASCII)
_RESIZED = re.compile(r"resized-(\d{1,4}):(\d{1,12}):(\d{1,12})", re.ASCII)


def resized_frame(factor: int, min_pixels: int, max_pixels: int) -> CoordFrame:
    """Pixels of the image after `smart_resize`; its name holds the three numbers."""
    return CoordFrame(
        name=f"resized-{factor}:{min_pixels}:{max_pixels}",
        denominator=1,
        extent="resized",
        resize=(factor, min_pixels, max_pixels),
    )


def frame_named(name: str) -> CoordFrame:
    """The frame of that name; ConfigError lists the known ones.

    `unit-N` is k / N * size for any N; `resized-FACTOR:MIN:MAX` see `resized_frame`.
    """
    found = FRAMES.get(name) or FOREIGN_FRAMES.get(name)
    if found is not None:
        return found
    match = _UNIT.fullmatch(name)
    if match is not None:
        return CoordFrame(name=name, denominator=int(match[1]), extent="size")
    match = _RESIZED.fullmatch(name)
    if match is not None:
        factor, low, high = map(int, match.groups())
        if factor and low <= high and high:
            return resized_frame(factor, low, high)
    known = ", ".join((*FRAMES, *FOREIGN_FRAMES, "unit-N", "resized-FACTOR:MINPIXELS:MAXPIXELS"))
    raise ConfigError(f"unknown coordinate frame {name[:60]!r}: use one of {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Bins of one geometry, with what had to be done to fit it on the grid."""

    bins: tuple[int, ...]
    clamped: int
    widened: bool


def _round_half_up(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(bins + 0.5)


def quantise(
    values_px: Sequence[float],
    width: int,
    height: int,
    frame: CoordFrame,
    *,
    is_box: bool = True,
    rounding: Rounding = "nearest",
    max_bin: int = MAX_BIN,
) -> Quantised:
    """Pixels of one geometry to bins.

    `nearest` rounds half up, so that bins -> pixels -> bins is the identity; `outward` takes the
    floor of a box's top-left corner and the ceiling of its bottom-right one (points of polygons
    and lines are always rounded to nearest). Values beyond the grid are clamped and counted. A
    box with positive sides that collapses is widened by one bin; a box that was empty or inverted
    already stays so. `max_bin` is the largest number of the grid.
    """
    raw = frame.to_bins(values_px, width, height)
    # A real bin a hair above an integer (float error of a round trip) must not jump outward.
    snapped = _round_half_up(raw)
    raw = np.where(np.abs(raw - snapped) < 1e-6, snapped, raw)
    if rounding == "outward" and is_box:
        rounded = np.concatenate([np.floor(raw[:2]), np.ceil(raw[2:])])
    else:
        rounded = _round_half_up(raw)
    clipped = np.clip(rounded, 0, max_bin)
    clamped = int(np.count_nonzero(clipped != rounded))
    bins = [int(value) for value in clipped]
    widened = False
    if is_box and len(bins) == 4 and len(values_px) == 4:
        for low, high in ((0, 2), (1, 3)):
            if values_px[high] > values_px[low] and bins[high] <= bins[low]:
                widened = True
                if bins[low] < max_bin:
                    bins[high] = bins[low] + 1
                else:
                    bins[low], bins[high] = max_bin - 1, max_bin
    return Quantised(bins=tuple(bins), clamped=clamped, widened=widened)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordVocabulary:
    """Token ids of the 1000 coordinate tokens of one tokenizer; `token_ids[k]` is bin k."""

    token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.token_ids) != NUM_BINS or len(set(self.token_ids)) != NUM_BINS:
            raise ValueError(f"a coordinate vocabulary needs {NUM_BINS} distinct token ids")

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> CoordVocabulary:
        """Read the ids off a Hugging Face tokenizer and check them.

        Raises CheckpointError naming the tokens that are missing, unknown or split.
        """
        vocabulary = tokenizer.get_vocab()
        tokens = [coord_token(k) for k in range(NUM_BINS)]
        missing = [token for token in tokens if token not in vocabulary]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise CheckpointError(
                f"the tokenizer lacks {len(missing)} of {NUM_BINS} coordinate tokens ({shown}); "
                "add them with: coordeval vocab expand BASE OUT"
            )
        ids = tuple(int(vocabulary[token]) for token in tokens)
        encoded = tokenizer("".join(tokens), add_special_tokens=False)["input_ids"]
        if list(encoded) != list(ids):
            split = [t for t, i in zip(tokens, ids, strict=True) if tokenizer.encode(t) != [i]]
            shown = ", ".join(split[:3]) or "their concatenation"
            raise CheckpointError(
                f"the tokenizer does not encode coordinate tokens as single tokens ({shown}); "
                "re-add them with: coordeval vocab expand BASE OUT"
            )
        return cls(token_ids=ids)

    @property
    def is_contiguous(self) -> bool:
        """True where bin k has id `token_ids[0] + k`."""
        return self.token_ids == tuple(range(self.token_ids[0], self.token_ids[0] + NUM_BINS))

    def bins_of(self, token_ids: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Bin of each token id, -1 for other tokens; same length as the input."""
        ids = np.asarray(token_ids, dtype=np.int64)
        table_ids = np.asarray(self.token_ids, dtype=np.int64)
        order = np.argsort(table_ids)
        position = np.searchsorted(table_ids[order], ids)
        position = np.minimum(position, NUM_BINS - 1)
        candidate = order[position]
        return np.where(table_ids[candidate] == ids, candidate, -1).astype(np.int64)


__all__ = [
    "COORD_TOKEN_RE",
    "DEFAULT_FRAME",
    "FOREIGN_FRAMES",
    "FRAMES",
    "MAX_BIN",
    "NUM_BINS",
    "CoordFrame",
    "CoordVocabulary",
    "Quantised",
    "Rounding",
    "coord_token",
    "frame_named",
    "quantise",
    "resized_frame",
]
