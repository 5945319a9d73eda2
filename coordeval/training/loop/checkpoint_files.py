"""What a checkpoint needs besides weights, so that every tool can load it as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

_PATTERNS = (
    "added_tokens.json",
    "chat_template.*",
    "merges.txt",
    "*preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer*",
    "*.model",
    "vocab.json",
    "vocab.txt",
)


class CheckpointFiles:
    """Copies tokenizer, processor and chat template from the base checkpoint, byte for byte.

    Stands where the library expects a processing class that it can save. `adapter`: an adapter's
    checkpoint needs none of them, its base has them.
    """

    def __init__(self, base: Path, *, adapter: bool) -> None:
        self._base, self._adapter = base, adapter

    def save_pretrained(self, out: str) -> None:
        """Copy the files into a checkpoint folder."""
        if self._adapter:
            return
        for pattern in _PATTERNS:
            for path in sorted(self._base.glob(pattern)):
                if path.is_file():
                    shutil.copyfile(path, Path(out) / path.name)


__all__ = ["CheckpointFiles"]
