"""A closed list of class names from a file: one per line, or a JSON list of strings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names in the file's order, without repeats; blank lines are skipped.

    A file that ends in .json holds a list of strings, so that a name may hold a line break.
    Raises ConfigError where the file can't be read, or holds no names or something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the class list cannot be read: {error}") from None
    if path.suffix == ".json":
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not JSON: {error}") from None
        if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
            raise ConfigError(f"{path}: a class list is a JSON list of strings")
        names = raw
    else:
        names = [line.strip() for line in text.split("\n")]
    kept = tuple(dict.fromkeys(name for name in names if name.strip()))
    if not kept:
        raise ConfigError(f"{path}: holds no class names; write one per line")
    return kept


__all__ = ["read_class_list"]
