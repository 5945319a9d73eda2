"""Several short samples in one row: which ones, and positions that keep them apart.

How samples are kept apart: positions start anew at 0 with every sample, and no attention mask is
given, so that the library finds the borders in the positions and builds a mask under which no
token sees another sample. It does so with `sdpa` and `eager` attention and without a cache; each
sample then has the logits that it has alone (tested). Flash attention finds borders in batches of
one row only, so it is refused.

Shapes: B rows, L columns; R rows of a packing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

PACKABLE_MODELS = ("qwen3_vl",)
PACKABLE_ATTENTION = ("sdpa", "eager")


def check_packing(model_config: Any) -> None:
    """Refuse a model or an attention implementation for which packing is not shown to be exact.

    `model_config` is the configuration of a loaded model. Raises ConfigError.
    """
    kind = getattr(model_config, "model_type", None)
    if kind not in PACKABLE_MODELS:
        raise ConfigError(
            f"data.packing: models of type {kind!r} are not supported "
            f"(known: {', '.join(PACKABLE_MODELS)}); set data.packing: false"
        )
    attention = getattr(model_config.get_text_config(), "_attn_implementation", None)
    if attention not in PACKABLE_ATTENTION:
        raise ConfigError(
            f"data.packing: attention {attention!r} does not keep packed samples apart; "
            f"use {' or '.join(PACKABLE_ATTENTION)}, or set data.packing: false"
        )


def pack_lengths(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """First-fit decreasing: rows of indices whose lengths add up to at most `capacity`.

    Longest first, ties in the given order; each goes into the first row that has room. Rows stand
    in the order in which they were opened. No lengths give no rows. Raises ValueError for a
    length above the capacity.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    if order and lengths[order[0]] > capacity:
        raise ValueError(f"a length of {lengths[order[0]]} does not fit into {capacity}")
    room = _Room(len(lengths), capacity)
    rows: list[list[int]] = []
    for index in order:
        row = room.take(lengths[index])
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
    return rows


class _Room:
    """Room left in up to `count` rows: a binary tree of maxima, leaf i is row i."""

    def __init__(self, count: int, capacity: int) -> None:
        self._leaves = 1
        while self._leaves < count:
            self._leaves *= 2
        self._most = [capacity] * (2 * self._leaves)

    def take(self, length: int) -> int:
        """Put a length into the first row that has room for it, and return that row."""
        most = self._most
        node = 1
        while node < self._leaves:
            node *= 2
            if most[node] < length:
                node += 1
        row = node - self._leaves
        most[node] -= length
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
        return row


class Packing:
    """Rows of samples for every epoch.

    Samples of equal length change places from epoch to epoch, seeded; the lengths that meet in a
    row do not, and so the number of rows stays the same. `lengths` must hold for every epoch.
    """

    def __init__(self, lengths: Sequence[int], capacity: int, *, seed: int) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._seed = seed
        self._ranked = np.argsort(-self._lengths, kind="stable")
        self._rows = pack_lengths(self._lengths[self._ranked].tolist(), capacity)
        self._epoch: int | None = None
        self._sample_at: NDArray[np.int64] = self._ranked

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int, epoch: int) -> list[int]:
        """Indices of the samples in one row of an epoch."""
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed & 0xFFFF_FFFF, epoch])
            shuffled = generator.permutation(len(self._lengths))
            order = np.argsort(-self._lengths[shuffled], kind="stable")
            self._sample_at, self._epoch = shuffled[order], epoch
        return [int(self._sample_at[rank]) for rank in self._rows[number]]


def row_positions(
    rows: Sequence[Sequence[tuple[Tensor, Tensor]]],
    *,
    length: int,
    image_token_id: int,
    merge: int,
) -> Tensor:
    """Positions (4, B, L) of packed rows: text, time, height, width; padding is 0 throughout.

    A row holds samples as (input ids, image grid t, h, w); each has exactly one image. Text
    positions count a sample's tokens from 0; the other three are Qwen-VL's M-RoPE: text counts on
    in all of them, the image spans its grid from where it stands, and text goes on behind the
    image's longer side.
    """
    out = torch.zeros((4, len(rows), length), dtype=torch.long)
    for number, row in enumerate(rows):
        column = 0
        for ids, grid_thw in row:
            end = column + len(ids)
            out[0, number, column:end] = torch.arange(len(ids))
            out[1:, number, column:end] = _rope_positions(ids, grid_thw, image_token_id, merge)
            column = end
    return out


def _rope_positions(ids: Tensor, grid_thw: Tensor, image_token_id: int, merge: int) -> Tensor:
    """Time, height and width positions (3, l) of one sample with one still image."""
    height, width = int(grid_thw[1]) // merge, int(grid_thw[2]) // merge
    start = int(torch.nonzero(ids == image_token_id)[0])
    positions = torch.arange(len(ids)).repeat(3, 1)
    end = start + height * width
    positions[0, start:end] = start
    positions[1, start:end] = start + torch.arange(height).repeat_interleave(width)
    positions[2, start:end] = start + torch.arange(width).repeat(height)
    positions[:, end:] += max(height, width) - height * width
    return positions


__all__ = [
    "PACKABLE_ATTENTION",
    "PACKABLE_MODELS",
    "Packing",
    "check_packing",
    "pack_lengths",
    "row_positions",
]
