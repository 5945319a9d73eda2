"""What a user asks of a rollout, as plain values; defaults as `coordeval rollout --help` states."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coordeval.coords import DEFAULT_FRAME
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
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
    `max_new_tokens` derives it from the ground truth. `classes` closes the descriptions under a
    grammar: `dataset`, or a file of names; None leaves them as `constraint` has them.
    `tensor_parallel` to `engine_args` are for vLLM (`data_parallel` also for Hugging Face),
    `server_url` to `retries` for a server.
    """

    checkpoint: str
    data: Path
    runs_dir: Path
    image_root: Path | None = None
    out: Path | None = None
    engine: str = "auto"
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
    sample_temperature: float | None = None
    constraint: ConstraintSettings = field(default_factory=ConstraintSettings)
    classes: str | None = None
    guard: GuardSettings = field(default_factory=GuardSettings)
    telemetry: bool = False
    tensor_parallel: int = 1
    data_parallel: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    engine_args: dict[str, str] = field(default_factory=dict)
    server_url: str | None = None
    server_model: str | None = None
    concurrency: int = 16
    timeout_s: float = 300.0
    retries: int = 4
    retry_errors: bool = False
    trust_remote_code: bool = False

    def decode_settings(
        self, max_new_tokens: int, *, class_names: tuple[str, ...] | None = None
    ) -> DecodeSettings:
        """The decode settings, with the token limit and the class list that were given or found."""
        constraint = self.constraint
        if class_names is not None:
            constraint = replace(constraint, class_names=class_names)
        return DecodeSettings(
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            samples=self.samples,
            sample_temperature=self.sample_temperature,
            constraint=constraint,
            guard=self.guard,
            telemetry=self.telemetry,
        )


__all__ = ["RolloutOptions"]
