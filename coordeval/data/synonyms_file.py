"""Synonyms from a file: one canonical name with its synonyms, as TOML or as plain lines.

TOML: `couch = ["sofa", "settee"]`, at the top or in a table `[synonyms]`. Any other file: a line
`couch: sofa, settee` each; blank lines and lines that start with `#` are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.documents import read_text, read_toml
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "synonyms"


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """Canonical name -> synonyms, in the file's order; a name that ends in .toml is TOML.

    Raises ConfigError with file and line (or key) where it cannot be read, is of another form, or
    names the same class twice. That names do not contradict each other is for the one who uses it.
    """
    is_toml = path.suffix.lower() == ".toml"
    groups = _from_table(read_toml(path), path) if is_toml else _from_lines(read_text(path), path)
    if not groups:
        example = 'couch = ["sofa", "settee"]' if is_toml else "couch: sofa, settee"
        raise ConfigError(f"{path}: holds no synonyms; write lines such as {example}")
    return groups


def _from_table(raw: dict[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    if list(raw) == [TABLE] and isinstance(raw[TABLE], dict):
        raw = raw[TABLE]
    out: dict[str, tuple[str, ...]] = {}
    for name, value in raw.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f'{path}: {name!r} must be a list of names: {name} = ["...", "..."]')
        out[name] = tuple(value)
    return out


def _from_lines(text: str, path: Path) -> dict[str, tuple[str, ...]]:
    out: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        synonyms = tuple(part.strip() for part in rest.split(",") if part.strip())
        name = name.strip()
        if not colon or not name or not synonyms:
            raise ConfigError(f"{path}:{number}: not of the form 'couch: sofa, settee'")
        if name in out:
            raise ConfigError(f"{path}:{number}: {name!r} has a line already")
        out[name] = synonyms
    return out


__all__ = ["TABLE", "read_synonyms"]
