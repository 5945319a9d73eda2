"""Synonyms from a file: one canonical name with its synonyms, as TOML, JSON, YAML or plain lines.

TOML: `couch = ["sofa", "settee"]`, at the top or in a table `[synonyms]`; JSON and YAML: the same
mapping. Any other file: a line `couch: sofa, settee` each; blank lines and lines that start with
`#` are skipped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from coordeval.documents import read_text, read_toml, read_yaml
from coordeval.errors import ConfigError
from coordeval.jsonl import load_json
from coordeval.quoting import shown

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "synonyms"
_EXAMPLES = {
    ".toml": 'couch = ["sofa", "settee"]',
    ".json": '"couch": ["sofa", "settee"]',
    ".yaml": "couch: [sofa, settee]",
    ".yml": "couch: [sofa, settee]",
}


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """Canonical name -> synonyms, in the file's order; how the file's name ends says its form.

    Raises ConfigError with file and line (or key) where it cannot be read, is of another form, or
    names the same class twice. That names do not contradict each other is for the one who uses it.
    """
    suffix = path.suffix.lower()
    if suffix == ".toml":
        groups = _from_table(read_toml(path), path)
    elif suffix in {".json", ".yaml", ".yml"}:
        raw = _read_json(path) if suffix == ".json" else read_yaml(path)
        groups = _from_table({} if raw is None else raw, path)
    else:
        groups = _from_lines(read_text(path), path)
    if not groups:
        example = _EXAMPLES.get(suffix, "couch: sofa, settee")
        raise ConfigError(f"{path}: holds no synonyms; write lines such as {example}")
    return groups


def _read_json(path: Path) -> Any:
    text = read_text(path).removeprefix("\ufeff")
    try:
        load_json(text.encode())  # the one meaning of JSON here: no NaN, no endless depth
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: not a JSON file: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in pairs:
        if name in out:
            raise ValueError(f"the key {shown(name, 60)} stands twice")
        out[name] = value
    return out


def _from_table(raw: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping: a name, and the list of its synonyms")
    if list(raw) == [TABLE] and isinstance(raw[TABLE], dict):
        raw = raw[TABLE]
    out: dict[str, tuple[str, ...]] = {}
    for name, value in raw.items():
        names = [name, *value] if isinstance(value, list) else [None]
        if not all(isinstance(item, str) for item in names):
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
        if name[0] in "[{" or synonyms[0][0] in "[{":
            raise ConfigError(
                f"{path}:{number}: lists in brackets are for files named *.toml, *.json or *.yaml"
            )
        if name in out:
            raise ConfigError(f"{path}:{number}: {name!r} has a line already")
        out[name] = synonyms
    return out


__all__ = ["TABLE", "read_synonyms"]
