"""A training configuration from a YAML file and `--set` changes; unknown keys are refused."""

from __future__ import annotations

import difflib
import hashlib
import types
import typing
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from coordeval.documents import parse_yaml, read_yaml
from coordeval.errors import ConfigError
from coordeval.foreign_paths import exists, expand_home
from coordeval.jsonl import dump_line
from coordeval.quoting import shown
from coordeval.training.config import OF_OTHER_STAGE, TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHER_STAGE = {1: "stage2", 2: "objective"}
"""The section that a stage does not read."""
LATER_KEYS: dict[tuple[str, ...], Any] = {
    ("attention",): "auto",
    ("objective", "sigma_end"): None,
    ("objective", "sigma_steps"): 0,
}
"""Keys that older trainings do not have, and the value at which they change nothing."""
_PATH_KEYS = (
    ("model",),
    ("adapter",),
    ("output_dir",),
    ("data", "train"),
    ("data", "eval"),
    ("data", "image_root"),
    ("data", "eval_image_root"),
    ("data", "prompt"),
    ("rollout_eval", "data"),
    ("rollout_eval", "image_root"),
)


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a file and apply changes (`data.limit=100`), values in YAML; relative paths resolved.

    Paths in the file are relative to its folder, those of changes to the working folder. Raises
    ConfigError for what cannot be read, unknown keys (with the nearest known one), wrong types and
    contradictions.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold keys and values, such as `model: FOLDER`")
    _resolve_paths(raw, path.resolve().parent)
    for change in changes:
        _apply(raw, change)
    return build_config(raw, where=str(path))


def build_config(raw: Mapping[str, Any], *, where: str) -> TrainConfig:
    """A configuration from plain values; errors as `load_config`, named by `where`."""
    stage = raw.get("stage", 1)
    other = OTHER_STAGE.get(stage) if isinstance(stage, int) else None
    if other is not None and other in raw:
        raise ConfigError(f"{where}: {other}: {OF_OTHER_STAGE[other]}")
    config = _build(TrainConfig, raw, where, "")
    assert isinstance(config, TrainConfig)
    return config


def config_values(config: TrainConfig) -> dict[str, Any]:
    """Everything that a training of its stage reads, all defaults filled in, as plain values."""
    raw = asdict(config)
    raw.pop(OTHER_STAGE[config.stage])
    return raw


def config_yaml(config: TrainConfig) -> str:
    """The whole configuration of its stage with all defaults filled in, as YAML."""
    text: str = yaml.safe_dump(config_values(config), sort_keys=False, allow_unicode=True)
    return text


def config_hash(config: TrainConfig) -> str:
    """Hex sha256 of all that decides the course of a training: everything but `output_dir`.

    Keys that came later are left out at their defaults, where a training is what it was before
    them: its folder can still be gone on with.
    """
    raw = config_values(config)
    raw.pop("output_dir")
    for keys, default in LATER_KEYS.items():
        table = raw
        for key in keys[:-1]:
            table = table.get(key, {})
        if table.get(keys[-1]) == default:
            table.pop(keys[-1], None)
    return hashlib.sha256(dump_line(raw)).hexdigest()


def _resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    for keys in _PATH_KEYS:
        table: Any = raw
        for key in keys[:-1]:
            table = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(table.get(keys[-1]), str):
            table[keys[-1]] = _resolved(table[keys[-1]], folder, must_exist=keys == ("model",))


def _resolved(value: str, folder: Path, *, must_exist: bool) -> str:
    """An absolute path; a model that is no folder here stays as it is: it may be a hub id."""
    path = folder / expand_home(value)
    if must_exist and not exists(path):
        return value
    if value in {"open", "closed"}:  # prompts by name
        return value
    return str(path)


def _apply(raw: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise ConfigError(f"--set {change!r}: write key=value, such as data.limit=100")
    try:
        value = parse_yaml(text, f"--set {change!r}")
    except ConfigError:
        value = text
    table = raw
    for name in names[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {change!r}: {name} holds a value, not further keys")
        table = inner
    if isinstance(value, str) and tuple(names) in _PATH_KEYS:
        value = _resolved(value, Path.cwd(), must_exist=names == ["model"])
    table[names[-1]] = value


def _build(kind: type, raw: Any, where: str, prefix: str) -> Any:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {prefix.rstrip('.') or 'the file'} must hold keys and values")
    known = {item.name: item for item in fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {prefix}{shown(str(key), 60)}; {hint}")
    values = {}
    for name, item in known.items():
        if name in raw:
            values[name] = _value(hints[name], raw[name], where, f"{prefix}{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(f"{where}: {prefix}{name} is missing")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str, name: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, {} if value is None else value, where, f"{name}.")  # type: ignore[arg-type]
    accepted = _accepted(hint)
    if value is None and type(None) in accepted:
        return None
    if float in accepted and isinstance(value, int | str) and not isinstance(value, bool):
        value = _number(value)  # YAML reads 1e-4 as text
    if isinstance(value, bool) and bool not in accepted:
        value = str(value).lower()
    if not isinstance(value, tuple(accepted)):
        wanted = " or ".join("nothing" if t is type(None) else t.__name__ for t in accepted)
        raise ConfigError(f"{where}: {name} must be {wanted}, not {shown(str(value), 60)}")
    return value


def _number(value: int | str) -> float | str:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return str(value)


def _accepted(hint: Any) -> list[type]:
    """The plain types that a field's annotation stands for."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return list({type(value) for value in typing.get_args(hint)})
    if origin in {typing.Union, types.UnionType}:
        return [kind for part in typing.get_args(hint) for kind in _accepted(part)]
    return [origin or hint]


__all__ = ["build_config", "config_hash", "config_values", "config_yaml", "load_config"]
