"""Where the groups of a synonyms file stand in it, for messages."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from coordeval.documents import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def synonym_lines(path: Path, names: Iterable[str]) -> dict[str, int]:
    """Canonical name -> the line (from 1) of the file on which it stands as a key.

    A name that is written in no plain way (escapes) is left out; no names, no entries. Raises
    ConfigError where the file cannot be read.
    """
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    wanted = {spelling: name for name in names for spelling in _spellings(name)}
    out: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#"):
            continue
        for key in _KEY.findall(line):
            name = wanted.get(key.strip())
            if name is not None:
                out.setdefault(name, number)
    return out


_KEY = re.compile(r"(?:^|[{,])\s*+(\"(?:[^\"\\]|\\.)*+\"|'[^']*+'|[^\"'{},:=\[\]]++)\s*+[:=]")
"""A key of TOML, JSON, YAML or a plain line: first in its line, or after a brace or comma."""


def _spellings(name: str) -> tuple[str, ...]:
    """How a key is written: bare, in either quotes, and as JSON escapes it."""
    return name, f'"{name}"', f"'{name}'", json.dumps(name), json.dumps(name, ensure_ascii=False)


__all__ = ["synonym_lines"]
