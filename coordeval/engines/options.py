"""What a user asks of a rollout, as plain values; defaults as `coordeval rollout --help` states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.coords import DEFAULT_FRAME
from coordeval.engines.base import DecodeSettings
from coordeval.parsers.dialects import DEFAULT_DIALECT

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.parsers.dialects import FieldOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """Everything that `coordeval rollout` takes.

    `checkpoint` is a folder or hub id; with the replay engine a recorded run. `out` None is
    `runs_dir` / <checkpoint name>-<short hash of settings>. `prompt` is a TOML file, `closed` for
    the default prompt with the dataset's class list, or None for the open default. None for
    `max_new_tokens` derives it from the ground truth.
    """

    checkpoint: str
    data: Path
    runs_dir: Path
    image_root: Path | None = None
    out: Path | None = None
    engine: str = "hf"
    prompt: str | None = None
    pixels: str | None = None
    dialect: str = DEFAULT_DIALECT
    field_order: FieldOrder | None = None
    frame: str = DEFAULT_FRAME
    batch_size: int = 8
    dtype: str = "auto"
    device: str = "auto"
    attention: str = "auto"
    adapter: Path | None = None
    limit: int | None = None
    ids: str | None = None
    shard: str | None = None
    samples: int = 1
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None
    retry_errors: bool = False
    trust_remote_code: bool = False

    def decode_settings(self, max_new_tokens: int) -> DecodeSettings:
        """The decode settings, with the token limit that was given or derived."""
        return DecodeSettings(
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            samples=self.samples,
        )


__all__ = ["RolloutOptions"]
