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


def not_negative(table: str, **values: float | None) -> None:
    """Refuse the first number below 0, infinite or NaN; None is left alone.

    Here and below, `values` go by their keys in `table`.
    """
    for key, value in values.items():
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{table}.{key} must be finite and not negative, not {value}")


def above_zero(table: str, **values: float) -> None:
    """Refuse the first number that is 0, below it, infinite or NaN."""
    for key, value in values.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{table}.{key} must be finite and above 0, not {value}")


def at_least(table: str, least: int, **values: int | None) -> None:
    """Refuse the first whole number below the least that means something; None is left alone."""
    for key, value in values.items():
        if value is not None and value < least:
            wanted = "must not be negative" if not least else f"must be at least {least}"
            raise ConfigError(f"{table}.{key} {wanted}, not {value}")


__all__ = ["above_zero", "at_least", "not_negative", "one_of"]
