"""What values of a training's configuration may be; ConfigError names the key that is wrong."""

from __future__ import annotations

import math
from typing import Any, get_args

from coordeval.errors import ConfigError


def one_of(name: str, value: object, kind: Any) -> None:
    """Refuse what is none of the words of a Literal."""
    known = get_args(kind)
    if value not in known:
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(known)}")


def not_negative(name: str, *values: float) -> None:
    """Refuse numbers below 0, infinities and NaN."""
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ConfigError(f"{name} must be finite and not negative")


def above_zero(name: str, *values: float) -> None:
    """Refuse 0, numbers below it, infinities and NaN."""
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ConfigError(f"{name} must be finite and above 0")


def at_least(name: str, least: int, value: int) -> None:
    """Refuse counts below the least one that means something."""
    if value < least:
        raise ConfigError(f"{name} must be at least {least}")


__all__ = ["above_zero", "at_least", "not_negative", "one_of"]
