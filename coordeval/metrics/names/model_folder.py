"""What a sentence model's folder may hold: safetensors, and classes of the library alone.

Looked at before the library sees it: some of its versions import the code that a local folder
names, and read the weights of single modules from pickles.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import PICKLE_SUFFIXES
from coordeval.errors import ConfigError
from coordeval.jsonl import load_json
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULES_NAME = "modules.json"
_CONFIG_RE = re.compile(r"(\w+_)?config\.json|modules\.json")
_CLASS_KEYS = ("type", "types", "tokenizer_class", "activation_function")
"""Keys of those files under which the library looks for classes."""
_OWN_CODE = ("sentence_transformers.", "torch.nn.")


def require_safe_model(folder: Path, name: str) -> None:
    """Refuse a folder that holds pickled weights or names code of its own; nothing is loaded.

    Weights and code of a module are looked for where the library does. Raises ConfigError, naming
    the model by `name`; also for settings that cannot be read, and modules outside the folder.
    """
    if not any(folder.rglob("*.safetensors")):
        raise ConfigError(
            f"{name}: holds no *.safetensors weights (pickle formats can run code when loaded)"
        )
    for path in sorted(folder.rglob("*.json")):
        if _CONFIG_RE.fullmatch(path.name) and path.is_file():
            for found in _classes(_read(path, name)):
                if not found.startswith(_OWN_CODE):
                    raise ConfigError(
                        f"{name}: {path.relative_to(folder)} names the code {shown(found, 60)}; "
                        "only the library's own modules are loaded"
                    )
    for place in _weight_folders(folder, name):
        pickled = sorted(item for item in place.glob("*") if item.suffix in PICKLE_SUFFIXES)
        if pickled and not any(place.glob("*.safetensors")):
            raise ConfigError(
                f"{name}: {pickled[0].relative_to(folder)} is a pickle, which can run code when "
                "loaded; save it as safetensors"
            )


def _read(path: Path, name: str) -> Any:
    try:
        return load_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {path.name} cannot be read: {error}") from None


def _classes(raw: Any) -> Iterator[str]:
    """Dotted paths of classes that a settings file names."""
    for part in raw if isinstance(raw, list) else [raw]:
        for key in _CLASS_KEYS if isinstance(part, dict) else ():
            value = part.get(key)
            for item in value.values() if isinstance(value, dict) else [value]:
                if isinstance(item, str) and "." in item:
                    yield item


def _weight_folders(folder: Path, name: str) -> Iterator[Path]:
    """The folders of the modules, with all that lies in them; the model's own, alone."""
    yield folder
    path = folder / MODULES_NAME
    raw = _read(path, name) if path.is_file() else []
    for part in raw if isinstance(raw, list) else []:
        inner = part.get("path") if isinstance(part, dict) else None
        if not isinstance(inner, str) or not inner:
            continue
        place = PurePosixPath(inner.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in inner:
            raise ConfigError(f"{name}: {MODULES_NAME} leads out of its folder: {shown(inner, 60)}")
        if place.parts:
            yield folder / place
            yield from (item for item in sorted((folder / place).rglob("*")) if item.is_dir())


__all__ = ["MODULES_NAME", "require_safe_model"]
