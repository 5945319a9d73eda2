"""A closed list of class names: the dataset's own, or from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError
from coordeval.jsonl import read_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import Category


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names of a file, one per line, in its order and without repeats; blank lines are skipped.

    A file that ends in .json holds a list of strings, so that a name may hold a line break.
    Raises ConfigError where the file can't be read, or holds no names or something else.
    """
    try:
        text = read_document(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
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


def choose_classes(
    name: str | None, categories: Sequence[Category] | None
) -> tuple[str, ...] | None:
    """The list that `--classes` names: None, `dataset` (its `categories`), or a file of names."""
    if name is None:
        return None
    if name == "dataset":
        if not categories:
            raise ConfigError(
                "--classes dataset: the data has no class list (COCO files have one); "
                "give a file with one name per line"
            )
        return tuple(dict.fromkeys(item.name for item in categories))
    return read_class_list(Path(name))


__all__ = ["choose_classes", "read_class_list"]
