"""The folder of one training: its configuration, versions and data, and whose folder it is."""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coordeval import __version__
from coordeval.documents import parse_yaml, read_yaml
from coordeval.errors import ConfigError, RunLockedError, RunMismatchError
from coordeval.folder_lock import lock_folder
from coordeval.jsonl import dump_line, load_document
from coordeval.training.config_file import config_hash, config_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordeval.training.config import TrainConfig

CONFIG_NAME = "config.yaml"
META_NAME = "training.json"
FORMAT = "coordeval-training/1"
_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "safetensors", "numpy", "pillow")


def check_folder(folder: Path, config: TrainConfig) -> None:
    """Refuse a folder of another configuration; RunMismatchError names the first differences."""
    if folder.exists() and not folder.is_dir():
        raise RunMismatchError(f"{folder}: is a file; output_dir must be a folder")
    stored = _stored_hash(folder)
    if stored is None or stored == config_hash(config):
        return
    raise RunMismatchError(
        f"{folder}: belongs to another configuration ({_differences(folder, config)}); "
        "choose another output_dir, or train with its config.yaml"
    )


@contextmanager
def locked(folder: Path, *, holds: bool) -> Iterator[None]:
    """Keep a second training out of the folder; RunLockedError where there is one."""
    if not holds:
        yield
        return
    from filelock import Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder)
    except Timeout:
        raise RunLockedError(f"{folder}: another training is writing this folder") from None
    except OSError as error:
        raise ConfigError(
            f"output_dir {folder}: cannot be written: {error.strerror or error}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_folder(folder: Path, config: TrainConfig, facts: dict[str, Any]) -> None:
    """Write `config.yaml` (all defaults filled in) and `training.json`, each as a whole.

    Raises ConfigError where the folder cannot be made or written.
    """
    meta = {
        "format": FORMAT,
        "config_sha256": config_hash(config),
        "versions": versions(),
        **facts,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CONFIG_NAME, config_yaml(config).encode())
        _write(folder / META_NAME, dump_line(meta))
    except OSError as error:
        raise ConfigError(
            f"output_dir {folder}: cannot be written: {error.strerror or error}"
        ) from None


def versions() -> dict[str, str]:
    """Versions of what decides the numbers; libraries that are not installed are left out."""
    from importlib.metadata import PackageNotFoundError, version

    out = {"coordeval": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def _stored_hash(folder: Path) -> str | None:
    path = folder / META_NAME
    if not path.exists():
        return None
    try:
        raw = load_document(path)
    except (OSError, ValueError) as error:
        raise RunMismatchError(f"{path}: cannot be read: {error}") from None
    return str(raw.get("config_sha256")) if isinstance(raw, dict) else None


def _differences(folder: Path, config: TrainConfig) -> str:
    """The first keys whose values differ, `key: theirs -> ours`."""
    try:
        before = _flat(read_yaml(folder / CONFIG_NAME))
        now = _flat(parse_yaml(config_yaml(config), CONFIG_NAME))
    except ConfigError:
        return "its hash differs"
    changed = [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} here"
        for key in sorted({*before, *now}, key=lambda key: (key != "stage", key))
        if key != "output_dir" and before.get(key) != now.get(key)
    ]
    return "; ".join(changed[:3]) or "its hash differs"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= _flat(inner, f"{prefix}{key}.")
    return out


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_bytes(data)
    os.replace(fresh, path)  # noqa: PTH105 - atomic


__all__ = ["CONFIG_NAME", "META_NAME", "check_folder", "versions", "write_folder"]
