"""What every engine is: requests in, finished rollouts out, batch by batch.

An engine may be a model in this process, a server, a cluster, or a recording that is replayed.
The driver in `engines.runner` only knows this protocol.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.errors import ConfigError
from coordeval.records import Rollout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from coordeval.coords import CoordVocabulary
    from coordeval.records import Sample

DEFAULT_SAMPLE_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How tokens are chosen; `temperature` 0 is greedy.

    `top_p` 1 and `top_k` 0 switch those filters off. `repetition_penalty` counts the prompt's
    tokens as well as the written ones, as is usual elsewhere. `samples` rollouts are made of each
    image: the first, the headline, at `temperature`; the others at `sample_temperature` (by
    default `temperature`, or 0.7 where that is greedy). `constraint`, `guard` and `telemetry` say
    what control and record stand beside the choice. Raises ConfigError for values out of range.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    samples: int = 1
    sample_temperature: float | None = None
    constraint: ConstraintSettings = field(default_factory=ConstraintSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    telemetry: bool = False

    def __post_init__(self) -> None:
        checks = (
            (self.max_new_tokens >= 1, "max-new-tokens must be at least 1"),
            (math.isfinite(self.temperature) and self.temperature >= 0, "temperature must be >= 0"),
            (0 < self.top_p <= 1, "top-p must be above 0 and at most 1"),
            (self.top_k >= 0, "top-k must be >= 0 (0: off)"),
            (
                math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0,
                "repetition-penalty must be above 0 (1: off)",
            ),
            (self.samples >= 1, "samples must be at least 1"),
        )
        for holds, message in checks:
            if not holds:
                raise ConfigError(message)
        given = self.sample_temperature
        if given is not None and not (math.isfinite(given) and given > 0):
            raise ConfigError("sample-temperature must be above 0")

    @property
    def greedy(self) -> bool:
        """True where the most probable token is always taken."""
        return self.temperature == 0.0

    def temperature_of(self, sample_index: int) -> float:
        """Temperature of one of an image's rollouts; 0 is greedy."""
        if sample_index == 0:
            return self.temperature
        if self.sample_temperature is not None:
            return self.sample_temperature
        return DEFAULT_SAMPLE_TEMPERATURE if self.greedy else self.temperature

    def to_json(self) -> dict[str, Any]:
        """The settings as run.json stores them: control only where some is asked for."""
        raw: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "max_new_tokens",
                "temperature",
                "top_p",
                "top_k",
                "repetition_penalty",
                "seed",
                "samples",
            )
        }
        if self.samples > 1 and self.temperature_of(1) != self.temperature:
            raw["sample_temperature"] = self.temperature_of(1)
        if self.constraint.mode != "none":
            raw["constraint"] = self.constraint.to_json()
        if self.guard.mode != "off":
            raw["guard"] = self.guard.to_json()
        if self.telemetry:
            raw["telemetry"] = True
        return raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One rollout to make: a sample's image, and the seed of this rollout's own random stream."""

    sample: Sample
    sample_index: int
    seed: int

    @property
    def id(self) -> str:
        """Id of the sample."""
        return self.sample.id

    @property
    def key(self) -> tuple[str, int]:
        """What tells this rollout from all others of a run: (id, sample index)."""
        return self.sample.id, self.sample_index

    @property
    def image_path(self) -> Path | None:
        """Where the image is; None where the dataset was read without images."""
        return self.sample.image_path


def request_seed(seed: int, sample_id: str, sample_index: int) -> int:
    """Seed of one rollout's random stream: 63 bits that depend on nothing but the arguments."""
    key = f"{seed}\0{sample_id}\0{sample_index}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def new_rollout(request: Request, text: str, **fields: Any) -> Rollout:
    """A rollout line for a request: the sample's ids, size and ground truth, and what was written.

    `fields` are further fields of `Rollout` (`finish_reason`, `token_ids`, ...).
    """
    sample = request.sample
    return Rollout(
        id=sample.id,
        width=sample.width,
        height=sample.height,
        gt=sample.objects,
        text=text,
        image=sample.image,
        image_id=sample.image_id,
        sample_index=request.sample_index,
        federated=sample.federated,
        **fields,
    )


def error_rollout(request: Request, message: str) -> Rollout:
    """The line of a rollout that could not be made: no text, `finish_reason` error, and why."""
    one_line = " ".join(message.split())
    return new_rollout(request, "", finish_reason="error", error=one_line[:1000])


@runtime_checkable
class Engine(Protocol):
    """Makes rollouts for requests."""

    def describe(self) -> dict[str, Any]:
        """Say what this engine is.

        Key `identity` holds what a resumed run must share (`name`, `dtype`, ...); `environment`
        what may differ (`device`, `batch_size`, ...); `versions` the versions of what it runs on.
        """
        ...

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens; None where the tokenizer is unknown or lacks them."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield finished rollouts, one list per batch, in any order; every request exactly once.

        What goes wrong with one request is an error line for it, never an exception.
        """
        ...

    def close(self) -> None:
        """Free the model, the server or the file; safe to call twice."""
        ...


__all__ = [
    "DecodeSettings",
    "Engine",
    "Request",
    "error_rollout",
    "new_rollout",
    "request_seed",
]
