"""Does time grow faster than the input? Inputs that can be made longer, drawn and measured.

Fuzzing for crashes uses short inputs, in which a quadratic reader is still quick. Here a short
piece is repeated until the input has some kilobytes, and again until it has eight times as many.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

FACTOR = 8
SMALL_BYTES = 6_000
MIN_SECONDS = 0.03
"""Less than this at the larger size is too little to tell growth by."""
SUSPECT_EXPONENT = 1.5
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Pump:
    """An input that can be made longer: `middle` stands there any number of times."""

    before: bytes
    middle: bytes
    after: bytes

    def of_size(self, size: int) -> bytes:
        """The input with as many middles as make about that many bytes."""
        return self.before + self.middle * max(1, size // len(self.middle)) + self.after


@dataclass(slots=True, kw_only=True)
class Growth:
    """What was measured: `exponent` of the steepest pump (time ~ size ** exponent)."""

    pumps: int = 0
    measured: int = 0
    exponent: float = 0.0
    pump: Pump | None = None


def draw_pump(seeds: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> Pump:
    """Parts of seeds and words, around a short piece to repeat."""

    def part(limit: int) -> bytes:
        if rng.random() < 0.5:
            return b"".join(rng.choice(words) for _ in range(rng.randrange(1, 4)))
        data = rng.choice(seeds)
        at = rng.randrange(len(data) + 1)
        return data[at : at + rng.randrange(1, limit)]

    middle = b""
    while not middle:
        middle = part(40)
    before = b"" if rng.random() < 0.2 else part(200)
    return Pump(before, middle[:200], b"" if rng.random() < 0.5 else part(200))


def look_for_growth(
    feed: Callable[[bytes], None],
    draw: Callable[[], Pump],
    *,
    until: float,
    growth: Growth,
) -> None:
    """Draw pumps until that time (`time.monotonic`), and keep the steepest in `growth`.

    A pump that looks steep is measured again, and the least of some runs counts, so that another
    program's load is not taken for growth. `feed` may raise nothing.
    """
    while time.monotonic() < until:
        pump = draw()
        growth.pumps += 1
        large = _seconds(feed, pump.of_size(SMALL_BYTES * FACTOR), 1)
        if large < MIN_SECONDS:
            continue
        growth.measured += 1
        exponent = _exponent(feed, pump, 1)
        if exponent > max(growth.exponent, SUSPECT_EXPONENT):
            exponent = _exponent(feed, pump, REPEATS)
        if exponent > growth.exponent:
            growth.exponent, growth.pump = exponent, pump


def _exponent(feed: Callable[[bytes], None], pump: Pump, repeats: int) -> float:
    sizes = SMALL_BYTES, SMALL_BYTES * FACTOR
    small, large = (_seconds(feed, pump.of_size(size), repeats) for size in sizes)
    return math.log(max(large, 1e-9) / max(small, 1e-9), FACTOR)


def _seconds(feed: Callable[[bytes], None], data: bytes, repeats: int) -> float:
    """The least CPU time of some runs."""
    times = []
    for _ in range(repeats):
        gc.collect()
        started = time.process_time()
        feed(data)
        times.append(time.process_time() - started)
    return min(times)


__all__ = ["SUSPECT_EXPONENT", "Growth", "Pump", "draw_pump", "look_for_growth"]
