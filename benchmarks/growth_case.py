"""One line of the table of growth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Work = Callable[[], object]
Build = Callable[[int, Path], Work]


class Case(NamedTuple):
    """One line of the table: `unit` says what one size is, `base` how many of it are 1x.

    `build` gets the size and a folder of its own and returns what is timed.
    """

    group: str
    name: str
    unit: str
    base: int
    build: Build


__all__ = ["Build", "Case", "Work"]
