"""Defaults from coordeval.toml in the working folder or the nearest parent that has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordeval.documents import read_toml, refuse_unknown_keys
from coordeval.errors import ConfigError

CONFIG_NAME = "coordeval.toml"

_PATH_KEYS = ("data", "image_root", "prompt", "runs_dir", "synonyms")
_STRING_KEYS = ("dialect", "field_order", "frame", "pixels")
_TABLE_KEYS = ("decode", "gates")
DECODE_TYPES: dict[str, type] = {
    "max_new_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "repetition_penalty": float,
    "seed": int,
    "samples": int,
    "batch_size": int,
    "dtype": str,
    "device": str,
    "limit": int,
    "engine": str,
    "sample_temperature": float,
    "constrain": str,
    "classes": str,
    "loop_guard": str,
    "telemetry": bool,
}
"""What [decode] may set, and of which type; a whole number does for a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What coordeval.toml sets; None or empty where it is silent.

    Paths are absolute, and without `..` but for those behind a link. `decode` holds values of the
    types of `DECODE_TYPES`. `source` is the file that was read, None where there is none.
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
    refuse_unknown_keys(raw, (*_PATH_KEYS, *_STRING_KEYS, *_TABLE_KEYS), str(path))
    values: dict[str, Any] = {"source": path}
    for key in (*_PATH_KEYS, *_STRING_KEYS):
        if key in raw:
            if not isinstance(raw[key], str):
                raise ConfigError(f"{path}: {key!r} must be a string")
            values[key] = _beside(path, raw[key]) if key in _PATH_KEYS else raw[key]
    if "dialect" in values and values["dialect"].endswith(".toml"):  # a file, not a name
        values["dialect"] = str(_beside(path, values["dialect"]))
    for key in _TABLE_KEYS:
        if key in raw:
            if not isinstance(raw[key], dict):
                raise ConfigError(f"{path}: [{key}] must be a table")
            values[key] = raw[key]
    if "decode" in values:
        values["decode"] = _decode_values(values["decode"], f"{path}: [decode]")
    return Defaults(**values)


def _decode_values(raw: dict[str, Any], where: str) -> dict[str, Any]:
    refuse_unknown_keys(raw, tuple(DECODE_TYPES), where)
    values = {}
    for key, value in raw.items():
        wanted = DECODE_TYPES[key]
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{where} {key} must be {wanted.__name__}")
        try:
            values[key] = wanted(value)
        except OverflowError:
            raise ConfigError(f"{where} {key} is too large") from None
    return values


def _beside(source: Path, written: str) -> Path:
    """A path of the file `source`, absolute, without the `..` that lead through no link."""
    path = source.parent / written
    out = Path(path.anchor)
    for part in path.parts[1:]:
        leads_back = part == ".." and out.name != ".." and not out.is_symlink()
        out = out.parent if leads_back else out / part
    return out


__all__ = ["CONFIG_NAME", "DECODE_TYPES", "Defaults", "find_config", "load_defaults"]
