"""Paths as people and files write them: looked at without ever raising."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(text: str | Path) -> Path:
    """`~` and `~name` replaced by home folders; the path as it is where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for unknown users


def exists(path: Path) -> bool:
    """Whether there is something; False for names that no file can have (too long, NUL)."""
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises for such names


def is_file(path: Path) -> bool:
    """Whether a path names a regular file (no folder, fifo or device)."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether a path names a folder."""
    return os.path.isdir(path)  # noqa: PTH112


__all__ = ["exists", "expand_home", "is_file", "is_folder"]
