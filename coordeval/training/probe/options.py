"""What a user asks of a probe, as plain values; defaults as `coordeval probe --help` states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.parsers.dialects import FieldOrder

Texts = Literal["gt", "rollouts", "both"]
TEXTS: tuple[Texts, ...] = ("gt", "rollouts", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """Everything that `coordeval probe` takes.

    `run` is a run directory or a bare file of rollout lines. `data`, `prompt`, `pixels`, `dialect`,
    `field_order` and `frame` None are the run's own; the `default_*` fields (coordeval.toml) fill
    in what the run does not say. Raises ConfigError for values that make no sense.
    """

    checkpoint: str
    run: Path
    texts: Texts = "both"
    data: Path | None = None
    image_root: Path | None = None
    prompt: str | None = None
    pixels: str | None = None
    dialect: str | None = None
    field_order: FieldOrder | None = None
    frame: str | None = None
    default_data: Path | None = None
    default_image_root: Path | None = None
    default_prompt: str | None = None
    default_pixels: str | None = None
    default_dialect: str | None = None
    default_frame: str | None = None
    limit: int | None = None
    ids: str | None = None
    batch_size: int = 8
    dtype: str = "auto"
    device: str = "auto"
    attention: str = "auto"
    adapter: Path | None = None
    trust_remote_code: bool = False
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.texts not in TEXTS:
            raise ConfigError(f"--texts {self.texts!r}: use one of {', '.join(TEXTS)}")
        if self.batch_size < 1:
            raise ConfigError("--batch-size must be at least 1")
        if self.draws < 100:
            raise ConfigError("--draws must be at least 100: fewer say nothing about 95 %")


__all__ = ["TEXTS", "ProbeOptions", "Texts"]
