"""Which optimizer steps belong to channel B: a function of the step's number alone.

So the answer is the same on every process, in every order of asking, and after a resume. Shares
are taken as the fractions that they were meant as: 0.1 is a tenth and 1 / 3 a third, not the binary
numbers next to them.

The formula typed with floats, `floor((s + 1) * r) > floor(s * r)`, names the same steps for .05,
.1, .15, .2, .25, .3, .5, .75, .85, 1 / 3, 2 / 3 and every n / 2^k. It parts from the exact one
where (s + 1) r is whole and the float product falls just below: the B step then comes one step
late, at s + 1 instead of s, and no other step changes. Of hundredths it first does so at s = 49 for
.58; 89 for .7; 99 for .29 and .57; 149 for .82; 179 for .35; 299 for .41 and .69; 2149 for .94;
4299 for .47. By it the first 100 steps at .29 would hold 28 of B; here they hold 29.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.training.stage2.config import CurriculumConfig, Stage2Config

SIMPLE = 1_000_000
"""No two fractions of denominators up to this one are the same number in floating point."""


def is_b_step(step: int, b_ratio: float, curriculum: CurriculumConfig | None = None) -> bool:
    """True where optimizer step `step` (from 0) is channel B's.

    Without a curriculum: floor((s + 1) r) > floor(s r), so that B steps are spread evenly, A comes
    first, and any first n steps hold floor(n r) of B. With one: see `count_b_steps`. Raises
    ValueError for a negative step or a share outside 0 .. 1.
    """
    return count_b_steps(step + 1, b_ratio, curriculum) > count_b_steps(step, b_ratio, curriculum)


def count_b_steps(
    num_steps: int, b_ratio: float, curriculum: CurriculumConfig | None = None
) -> int:
    """How many of the first `num_steps` steps are channel B's: the share's integral, rounded down.

    The share is `b_ratio`; with a curriculum it goes in a line from `start` to `b_ratio` over the
    first `steps` steps and stays there. It never exceeds 1, so that the integral grows by at most 1
    a step, and B steps stand wherever it passes a whole number.
    """
    if num_steps < 0:
        raise ValueError(f"steps are counted from 0, not {num_steps}")
    share = as_written(b_ratio)
    if curriculum is None or not curriculum.steps:
        return floor(num_steps * share)
    start, length = as_written(curriculum.start), curriculum.steps
    inside = min(num_steps, length)
    total = start * inside + (share - start) * inside**2 / (2 * length)
    return floor(total + share * (num_steps - inside))


def as_written(share: float) -> Fraction:
    """The simple fraction that a number stands for: 0.1 for a tenth, 1 / 3 for a third.

    It is the one of a denominator up to `SIMPLE` that is this number in floating point; where there
    is none, the shortest decimal that stands for the number. ValueError outside 0 .. 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of steps is from 0 to 1, not {share}")
    written = Fraction(repr(float(share)))
    simple = written.limit_denominator(SIMPLE)
    return simple if float(simple) == share else written


def channels_used(config: Stage2Config) -> tuple[bool, bool]:
    """Whether channel A and channel B have any step in a training that is long enough."""
    shares = [config.b_ratio]
    if config.curriculum.steps:
        shares.append(config.curriculum.start)
    return min(shares) < 1, max(shares) > 0


__all__ = ["SIMPLE", "as_written", "channels_used", "count_b_steps", "is_b_step"]
