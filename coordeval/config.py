"""Defaults from coordeval.toml in the working folder or the nearest parent that has one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.data.paths import shown
from coordeval.documents import read_toml
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "coordeval.toml"

_PATH_KEYS = ("data", "image_root", "prompt", "runs_dir", "synonyms")
_STRING_KEYS = ("dialect", "field_order", "frame", "pixels")
_TABLE_KEYS = ("decode", "gates")
_DECODE_KEYS = (
    "max_new_tokens",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "seed",
    "samples",
    "batch_size",
    "dtype",
    "device",
    "limit",
    "engine",
    "sample_temperature",
    "constrain",
    "classes",
    "loop_guard",
    "telemetry",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What coordeval.toml sets; None or empty where it is silent. Paths are absolute.

    `source` is the file that was read, None where there is none.
    """

    source: Path | None = None
    data: Path | None = None
    image_root: Path | None = None
    prompt: Path | None = None
    runs_dir: Path | None = None
    synonyms: Path | None = None
    dialect: str | None = None
    field_order: str | None = None
    frame: str | None = None
    pixels: str | None = None
    decode: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)


def find_config(cwd: Path, *, near: Path | None = None) -> Path | None:
    """The coordeval.toml that applies: from `cwd` upwards, else from the folder of `near` upwards.

    `near` is a checkpoint or run; its own inside is never searched, since it may be foreign.
    """
    starts = [cwd.resolve()]
    if near is not None and near.exists():
        starts.append(near.resolve().parent)
    for start in starts:
        for folder in (start, *start.parents):
            candidate = folder / CONFIG_NAME
            if candidate.is_file():
                return candidate
    return None


def load_defaults(cwd: Path, *, near: Path | None = None) -> Defaults:
    """Read the defaults that apply; ConfigError names file, key and the nearest known key."""
    path = find_config(cwd, near=near)
    if path is None:
        return Defaults()
    raw = read_toml(path)
    _refuse_unknown(raw, (*_PATH_KEYS, *_STRING_KEYS, *_TABLE_KEYS), str(path))
    values: dict[str, Any] = {"source": path}
    for key in (*_PATH_KEYS, *_STRING_KEYS):
        if key in raw:
            if not isinstance(raw[key], str):
                raise ConfigError(f"{path}: {key!r} must be a string")
            values[key] = path.parent / raw[key] if key in _PATH_KEYS else raw[key]
    if "dialect" in values and values["dialect"].endswith(".toml"):  # a file, not a name
        values["dialect"] = str(path.parent / values["dialect"])
    for key in _TABLE_KEYS:
        if key in raw:
            if not isinstance(raw[key], dict):
                raise ConfigError(f"{path}: [{key}] must be a table")
            values[key] = raw[key]
    _refuse_unknown(values.get("decode", {}), _DECODE_KEYS, f"{path}: [decode]")
    return Defaults(**values)


def _refuse_unknown(raw: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {shown(key, 60)}; {hint}")


__all__ = ["CONFIG_NAME", "Defaults", "find_config", "load_defaults"]
