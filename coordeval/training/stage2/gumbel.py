"""Gumbel noise that belongs to a sample, not to its place in a batch.

Drawn on the CPU from the training's seed, the optimizer step, the iteration and the sample's id:
batch 8, batch 1 with accumulation 8 and two processes see the same noise on any device.

Shapes: C coordinate slots, K bins.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def gumbel_noise(
    samples: Sequence[tuple[str, int]], num_bins: int, *, seed: int, step: int, iteration: int
) -> Tensor:
    """Standard Gumbel noise (C, K), finite float32, for slots in the order of `samples`.

    `samples` are ids with their number of slots, C in all; none give (0, K).
    """
    parts = [np.zeros((0, num_bins), dtype=np.float32)]
    for sample_id, slots in samples:
        digest = hashlib.sha256(sample_id.encode("utf-8", "surrogatepass")).digest()
        words = np.frombuffer(digest, dtype="<u4").tolist()
        # Parts of 64 bits: numpy would read longer or negative numbers otherwise, or refuse them.
        numbers = [value % (1 << 64) for value in (seed, step, iteration)]
        generator = np.random.default_rng(
            [part for value in numbers for part in (value & 0xFFFF_FFFF, value >> 32)] + words
        )
        parts.append(generator.gumbel(size=(slots, num_bins)).astype(np.float32))
    return torch.from_numpy(np.concatenate(parts))


__all__ = ["gumbel_noise"]
