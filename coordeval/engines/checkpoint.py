"""Where a checkpoint is and what it is: folder or hub id, safe formats, and a hash of its content.

Needs no torch, so that a wrong path or an unsafe checkpoint is refused before anything is loaded.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.errors import CheckpointError, MissingExtraError
from coordeval.foreign_paths import exists, expand_home, is_folder
from coordeval.jsonl import load_document
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

ADAPTER_CONFIG = "adapter_config.json"
HUB_ID_RE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# What decides what a model writes: weights, configuration, tokenizer, image processor, template.
_HASHED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.model",
    "*.py",
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.*",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_BLOCK_BYTES = 1 << 22
_SHARD_RE = re.compile(r"[^/\\\0]+\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder on this disk; `source` is what the user named it by."""

    source: str
    path: Path
    name: str

    def config(self) -> dict[str, Any]:
        """config.json as a mapping; CheckpointError where it cannot be read."""
        path = self.path / "config.json"
        try:
            raw = load_document(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from None
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path}: must hold a JSON object")
        return raw


def text_setting(config: Mapping[str, Any], name: str) -> int | None:
    """A positive whole number of the text model; None where the configuration does not give it.

    Newer configurations keep it with the text model's settings, older ones beside all others.
    """
    text = config.get("text_config")
    for part in (text if isinstance(text, dict) else {}, config):
        value = part.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def resolve_checkpoint(source: str) -> Checkpoint:
    """Find a checkpoint: an existing folder, else `owner/name` on the Hugging Face hub.

    What looks like a path (absolute, `.`, `~`, a first folder that exists here, no or several
    slashes) is never looked up on the hub. Raises CheckpointError where nothing is found, where
    weights come only in pickle formats, and for a folder that is or holds an adapter.
    """
    folder = expand_home(source)
    if is_folder(folder):
        checkpoint = Checkpoint(source=source, path=folder.resolve(), name=_name_of(folder))
    elif exists(folder):
        raise CheckpointError(f"{source}: is a file; give the folder that holds config.json")
    elif _looks_local(source):
        raise CheckpointError(f"{source}: no such checkpoint folder")
    else:
        name = source.rsplit("/", maxsplit=1)[-1]
        checkpoint = Checkpoint(source=source, path=_download(source), name=name)
    _check_files(checkpoint)
    return checkpoint


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "checkpoint"


def _looks_local(source: str) -> bool:
    if not HUB_ID_RE.fullmatch(source):
        return True
    return Path(source).parts[0] in {".", ".."} or Path(Path(source).parts[0]).exists()


def _download(source: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise MissingExtraError("a checkpoint from the Hugging Face hub", "hf") from None
    patterns = [pattern for pattern in _HASHED if pattern != "*.py"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{source}: no such folder here, and the hub did not give it: {reason}"
        ) from None


def _inner_hint(folder: Path) -> str:
    """The newest checkpoint inside, for whoever names the folder of a whole training."""
    inner = [path.parent for path in folder.glob("*/config.json")]
    inner += [path.parent for path in folder.glob("*/adapter_config.json")]
    if not inner:
        return ""
    step_re = re.compile(r"checkpoint-(\d+)")
    newest = max(
        inner, key=lambda path: int(step[1]) if (step := step_re.fullmatch(path.name)) else -1
    )
    return f"; it holds {len(set(inner))}, name one of them: {newest}"


def _check_files(checkpoint: Checkpoint) -> None:
    folder, source = checkpoint.path, checkpoint.source
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER_CONFIG).is_file():
            raise CheckpointError(
                f"{source}: is an adapter; give its base checkpoint, and this one as --adapter"
            )
        raise CheckpointError(
            f"{source}: not a checkpoint (it has no config.json){_inner_hint(folder)}"
        )
    if (folder / ADAPTER_CONFIG).exists():  # one engine would put it on top unasked, others not
        raise CheckpointError(
            f"{source}: holds an adapter ({ADAPTER_CONFIG}) beside a whole checkpoint: move it to "
            "a folder of its own, and give that as --adapter (or delete it where it was merged)"
        )
    require_safetensors(folder, source)


def require_safetensors(folder: Path, source: str) -> None:
    """Refuse a folder whose weights are not safetensors: pickle files can run code when loaded."""
    if any(folder.glob("*.safetensors")):
        _check_indexes(folder)
        return
    pickled = sorted(item.name for item in folder.iterdir() if item.suffix in PICKLE_SUFFIXES)
    if pickled:
        raise CheckpointError(
            f"{source}: has only pickle weights ({pickled[0]}), which can run code when loaded; "
            "save it as safetensors"
        )
    raise CheckpointError(f"{source}: has no *.safetensors weights")


def _check_indexes(folder: Path) -> None:
    """Refuse an index of shards that leads to anything but safetensors beside it."""
    for path in sorted(folder.glob("*.safetensors.index.json")):
        try:
            raw = load_document(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from None
        shards = raw.get("weight_map") if isinstance(raw, dict) else None
        if not isinstance(shards, dict):
            raise CheckpointError(f"{path}: has no 'weight_map'")
        for name in shards.values():
            if not (isinstance(name, str) and _SHARD_RE.fullmatch(name)):
                raise CheckpointError(
                    f"{path}: leads to {shown(str(name))}, which is no *.safetensors in this folder"
                )


def checkpoint_hash(folder: Path) -> str:
    """Hex sha256 over names, sizes and the whole content of the files that decide the output.

    These are weights, configuration, tokenizer, image processor and chat template; optimizer and
    trainer states are left out. Files are read in blocks, so memory does not grow with them.
    """
    digest = hashlib.sha256()
    for path in sorted(_hashed_files(folder), key=lambda item: item.name):
        content = hashlib.sha256()
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK_BYTES):
                content.update(block)
        digest.update(f"{path.name}\0{path.stat().st_size}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()


def checkpoint_sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files that decide the output, by name: what can be compared at once."""
    return {path.name: path.stat().st_size for path in sorted(_hashed_files(folder))}


def _hashed_files(folder: Path) -> Iterable[Path]:
    return {path for pattern in _HASHED for path in folder.glob(pattern) if path.is_file()}


__all__ = [
    "ADAPTER_CONFIG",
    "Checkpoint",
    "checkpoint_hash",
    "checkpoint_sizes",
    "require_safetensors",
    "resolve_checkpoint",
    "text_setting",
]
