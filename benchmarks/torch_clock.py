"""Seconds of a step on its device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from rounds import Timing, timed

if TYPE_CHECKING:
    from collections.abc import Callable


def clock_of(device: str) -> Callable[[Callable[[], object]], Timing]:
    """CPU seconds on a CPU; elsewhere the wall clock, once the device is done."""
    return timed if device == "cpu" else _on_device


def _on_device(work: Callable[[], object]) -> Timing:
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    taken = time.perf_counter() - begun
    return Timing(taken, taken)


__all__ = ["clock_of"]
