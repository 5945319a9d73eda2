"""The bin grid: coordinate tokens <-> bins <-> pixels.

K = 1000 bins, 0..999. A frame says what a bin means in pixels; every frame is linear and starts
at 0, so it is fully described by a denominator and an extent per axis.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUM_BINS = 1000
MAX_BIN = NUM_BINS - 1
COORD_TOKEN_RE = re.compile(r"<\|coord_(0|[1-9]\d{0,2})\|>")

Rounding = Literal["nearest", "outward"]


def coord_token(bin_index: int) -> str:
    """Text of the coordinate token of one bin; ValueError outside 0..999."""
    if not 0 <= bin_index <= MAX_BIN:
        raise ValueError(f"bin {bin_index} is outside 0..{MAX_BIN}")
    return f"<|coord_{bin_index}|>"


def parse_coord_token(text: str) -> int | None:
    """Bin of a string that is exactly one coordinate token, else None."""
    match = COORD_TOKEN_RE.fullmatch(text)
    return int(match.group(1)) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordFrame:
    """What a bin means: pixel = bin / denominator * extent(width, height).

    `extent` is `size_minus_one` (the first bin is the first pixel, the last bin the last pixel),
    `size`, or `longer_side` (the image is padded to a square at the right and the bottom).
    """

    name: str
    denominator: int
    extent: Literal["size_minus_one", "size", "longer_side"]

    def extents_px(self, width: int, height: int) -> tuple[float, float]:
        """Pixels that `denominator` bins span along x and y."""
        if self.extent == "longer_side":
            side = float(max(width, height))
            return side, side
        if self.extent == "size":
            return float(width), float(height)
        return float(width - 1), float(height - 1)

    def to_pixels(
        self, bins_xy: Sequence[float] | NDArray[Any], width: int, height: int
    ) -> NDArray[np.float64]:
        """Bins to pixels; the last axis alternates x, y; shapes are kept, empty stays empty."""
        pixels = np.array(bins_xy, dtype=np.float64)
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
        return bins


FRAMES: dict[str, CoordFrame] = {
    "coordexp": CoordFrame(name="coordexp", denominator=999, extent="size_minus_one"),
    "unit-1000": CoordFrame(name="unit-1000", denominator=1000, extent="size"),
    "unit-999": CoordFrame(name="unit-999", denominator=999, extent="size"),
    "square-1000": CoordFrame(name="square-1000", denominator=1000, extent="longer_side"),
}
DEFAULT_FRAME = "coordexp"


def frame_named(name: str) -> CoordFrame:
    """The frame of that name; ConfigError lists the known ones."""
    try:
        return FRAMES[name]
    except KeyError:
        known = ", ".join(FRAMES)
        raise ConfigError(f"unknown coordinate frame {name!r}: use one of {known}") from None


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
) -> Quantised:
    """Pixels of one geometry to bins.

    `nearest` rounds half up, so that bins -> pixels -> bins is the identity; `outward` takes the
    floor of a box's top-left corner and the ceiling of its bottom-right one (points of polygons
    and lines are always rounded to nearest). Values beyond the grid are clamped and counted. A
    box with positive sides that collapses is widened by one bin; a box that was empty or inverted
    already stays so.
    """
    raw = frame.to_bins(values_px, width, height)
    # A real bin a hair above an integer (float error of a round trip) must not jump outward.
    snapped = _round_half_up(raw)
    raw = np.where(np.abs(raw - snapped) < 1e-6, snapped, raw)
    if rounding == "outward" and is_box:
        rounded = np.concatenate([np.floor(raw[:2]), np.ceil(raw[2:])])
    else:
        rounded = _round_half_up(raw)
    clipped = np.clip(rounded, 0, MAX_BIN)
    clamped = int(np.count_nonzero(clipped != rounded))
    bins = [int(value) for value in clipped]
    widened = False
    if is_box and len(bins) == 4 and len(values_px) == 4:
        for low, high in ((0, 2), (1, 3)):
            if values_px[high] > values_px[low] and bins[high] <= bins[low]:
                widened = True
                if bins[low] < MAX_BIN:
                    bins[high] = bins[low] + 1
                else:
                    bins[low], bins[high] = MAX_BIN - 1, MAX_BIN
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
    "FRAMES",
    "MAX_BIN",
    "NUM_BINS",
    "CoordFrame",
    "CoordVocabulary",
    "Quantised",
    "Rounding",
    "coord_token",
    "frame_named",
    "parse_coord_token",
    "quantise",
]
