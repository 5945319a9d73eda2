"""What a user asks of a rollout, as plain values; defaults as `coordeval rollout --help` states."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import DEFAULT_DIALECT

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.data.prompts import Prompt
    from coordeval.parsers.dialects import FieldOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """Everything that `coordeval rollout` takes.

    `checkpoint` is a folder or hub id; with the replay engine a recorded run. `out` None is
    `runs_dir` / <checkpoint name>-<short hash of settings>. `prompt` is a TOML file, `closed` for
    the default prompt with the dataset's class list, a `Prompt`, or None for the open default.
    `frame` None is the dialect's own, else the default one.
    None for `max_new_tokens` derives it from the ground truth. `classes` closes the descriptions
    under a grammar: `dataset`, or a file of names; None leaves them as `constraint` has them.
    `tensor_parallel` to `engine_args` are for vLLM (`data_parallel` also for Hugging Face),
    `server_url` to `retries` for a server. `ray_address` to `inner` are for a Ray cluster, where
    `inner` is the engine of each replica; None for `replicas` is as many as there is room for.
    """

    checkpoint: str
    data: Path
    runs_dir: Path
    image_root: Path | None = None
    out: Path | None = None
    engine: str = "auto"
    prompt: Prompt | str | None = None
    pixels: str | None = None
    dialect: str = DEFAULT_DIALECT
    field_order: FieldOrder | None = None
    frame: str | None = None
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
    ray_address: str | None = None
    replicas: int | None = None
    inner: str | None = None
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


# Options of control by their names on the command line, and what they are of the settings.
_CONSTRAINT_FIELDS = ("max_objects", "max_points", "separators", "ordered", "sorted_objects")
_GUARD_FIELDS = {
    "guard_exact": "exact_repeats",
    "guard_block": "block_repeats",
    "guard_near": "near_repeats",
    "guard_near_iou": "near_iou",
    "guard_cycle": "cycle_repeats",
}


def control_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Take the options of control out of `values`, and put them together as settings.

    Settings that stand there already (`constraint`, `guard`: those of a run) are changed by them.
    """
    constraint: dict[str, Any] = {}
    if "constrain" in values:
        constraint["mode"] = values.pop("constrain")
    if "geometry" in values:
        kinds = (kind.strip() for kind in values.pop("geometry").split(","))
        constraint["geometries"] = tuple(kind for kind in kinds if kind)
    for name in _CONSTRAINT_FIELDS:
        value = values.pop(name, None)
        # A switch that was not given is False; it asks for nothing.
        if value is not None and not (name == "sorted_objects" and value is False):
            constraint[name] = value
    guard: dict[str, Any] = {}
    if "loop_guard" in values:
        guard["mode"] = values.pop("loop_guard")
    for option, name in _GUARD_FIELDS.items():
        if option in values:
            guard[name] = values.pop(option)
    constrained = replace(values.get("constraint", ConstraintSettings()), **constraint)
    guarded = replace(values.get("guard", GuardSettings()), **guard)
    # What would be silently without effect is refused, as the settings refuse max-objects.
    if constrained.mode == "none":
        _refuse(constraint, {"geometries": "geometry"}, "--constrain coords or grammar")
    if guarded.mode == "off":
        _refuse(guard, {name: option for option, name in _GUARD_FIELDS.items()}, "--loop-guard")
    return {"constraint": constrained, "guard": guarded}


def _refuse(given: dict[str, Any], names: dict[str, str], needs: str) -> None:
    """ConfigError for the first of the given options; none but the mode is fine."""
    for name in given:
        if name != "mode":
            option = names.get(name, name).replace("_", "-")
            raise ConfigError(f"--{option} has no effect without {needs}")


__all__ = ["RolloutOptions", "control_settings"]
