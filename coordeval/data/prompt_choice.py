"""Which prompt a name stands for, for a dialect and a dataset's class list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.data.foreign_prompts import prefers_closed
from coordeval.data.prompts import Prompt, default_prompt, load_prompt
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category


def choose_prompt(
    name: Prompt | str | None, dialect: Dialect, categories: Sequence[Category] | None
) -> Prompt:
    """The prompt that `--prompt` names: None or `open`, `closed`, or a TOML file.

    A prompt stays as it is. `categories` are the dataset's; ConfigError where a class list is
    needed and there is none. Other models' own detection prompts name the classes wherever there
    is a list; all others are open where nothing is said.
    """
    if isinstance(name, Prompt):
        return name
    names = None if categories is None else [item.name for item in categories]
    if name is None and names and prefers_closed(dialect):
        return default_prompt(dialect=dialect, class_names=names)
    if name is None or name == "open":
        return default_prompt(dialect=dialect)
    if name == "closed":
        if not names:
            raise ConfigError("--prompt closed: the data has no class list (COCO files have one)")
        return default_prompt(dialect=dialect, class_names=names)
    path = Path(name)
    if not path.exists():
        raise ConfigError(f"--prompt {name}: neither open nor closed, and there is no such file")
    return load_prompt(path, class_names=names)


__all__ = ["choose_prompt"]
