"""Faults of values that commands share with a configuration, told by the configuration's key."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def naming_key(key: str) -> Iterator[None]:
    """Put `key` before the message of a ConfigError, in the place of a command's option."""
    try:
        yield
    except ConfigError as error:
        option = f"--{key.rpartition('.')[2]} "
        raise ConfigError(f"{key}: {str(error).removeprefix(option)}") from None


__all__ = ["naming_key"]
