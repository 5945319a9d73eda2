"""Sentence embeddings by the library sentence-transformers (extra `semantic`).

Nothing is downloaded here: a model is a folder, or a name of which the files lie in the Hugging
Face cache already. Weights in pickle formats and code that comes with a model are refused.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError, MissingExtraError
from coordeval.foreign_paths import expand_home, is_folder
from coordeval.metrics.names.embedding import DEFAULT_THRESHOLD, EmbeddingNames
from coordeval.metrics.names.model_folder import require_safe_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

_BLOCK_BYTES = 1 << 22
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# What decides the vectors; model cards and pictures do not.
_HASHED_SUFFIXES = (".json", ".model", ".safetensors", ".txt")
# What the library raises on nonsense in a model's files.
_LIBRARY_FAULTS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_sentence_model(name: str, *, threshold: float = DEFAULT_THRESHOLD) -> EmbeddingNames:
    """The mapper of a sentence-transformers model: a folder, or a name that is in the cache.

    The hash is over its weights, configuration and vocabulary. Raises MissingExtraError without
    the library, ConfigError where there is no such model or it cannot be loaded.
    """
    try:
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtraError("matching names by sentence embeddings", "semantic") from None
    folder = _folder_of(name)
    require_safe_model(folder, name)
    try:
        model = SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (SafetensorError, *_LIBRARY_FAULTS) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{name}: not a sentence-transformers model: {reason}") from None

    def embed(texts: list[str]) -> ArrayLike:
        # Lone surrogates are no text to a tokenizer.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        vectors: ArrayLike = model.encode(clean, show_progress_bar=False, convert_to_numpy=True)
        return vectors

    return EmbeddingNames(
        embed,
        # Scores are read again from any folder.
        model=str(folder.resolve()) if is_folder(expand_home(name)) else name,
        sha256=model_hash(folder),
        threshold=threshold,
        backend=f"sentence-transformers {version('sentence-transformers')}",
    )


def _folder_of(name: str) -> Path:
    folder = expand_home(name)
    if is_folder(folder):
        return folder
    if folder.exists() or not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name}: no such model folder")
    from huggingface_hub import snapshot_download

    # The library's own models also go by their short names.
    for candidate in (name,) if "/" in name else (f"sentence-transformers/{name}", name):
        with suppress(ValueError, OSError):  # not in the cache
            return Path(snapshot_download(candidate, local_files_only=True))
    raise ConfigError(
        f"{name}: no such folder, and not in the Hugging Face cache; nothing is downloaded here: "
        f"fetch it first (hf download {candidate}), or name a folder"
    )


def model_hash(folder: Path) -> str:
    """Hex sha256 over names, sizes and content of the files that decide the vectors."""
    digest = hashlib.sha256()
    for path in sorted(_hashed_files(folder)):
        content = hashlib.sha256()
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK_BYTES):
                content.update(block)
        place = path.relative_to(folder).as_posix()
        digest.update(f"{place}\0{path.stat().st_size}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()


def _hashed_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in _HASHED_SUFFIXES and path.is_file() and not hidden:
            yield path


__all__ = ["load_sentence_model", "model_hash"]
