"""What flows through coordeval: samples, rollouts, and what the parser found in them.

Plain data without behaviour beyond counting; imports nothing but the standard library.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

GeometryKind = Literal["bbox_2d", "poly", "line"]
GEOMETRY_KINDS: tuple[GeometryKind, ...] = ("bbox_2d", "poly", "line")

FinishReason = Literal["stop", "length", "loop_guard", "grammar_error", "error"]
FINISH_REASONS: tuple[FinishReason, ...] = (
    "stop",
    "length",
    "loop_guard",
    "grammar_error",
    "error",
)

Frequency = Literal["r", "c", "f"]
FREQUENCIES: tuple[Frequency, ...] = ("r", "c", "f")


class GroundTruthObject(NamedTuple):
    """One annotated object; `values_px` are floats in pixels of the upright image.

    `bbox_2d` holds x1, y1, x2, y2; `poly` and `line` hold x, y, x, y, ...
    `area` (pixels squared) and `category_id` are kept where the source gave them.
    """

    desc: str
    kind: GeometryKind
    values_px: tuple[float, ...]
    iscrowd: bool = False
    area: float | None = None
    category_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One entry of a dataset's class list; `frequency` is LVIS's (rare, common, frequent)."""

    id: int
    name: str
    frequency: Frequency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedLabels:
    """What a federated dataset (LVIS) knows of one image beyond its annotations; category ids.

    The classes with annotations are in the image, those in `negative_ids` are not; of the classes
    in `not_exhaustive_ids` there may be more objects than annotated. Of all others nothing is
    known.
    """

    negative_ids: tuple[int, ...] = ()
    not_exhaustive_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its ground truth, in pixels of the image after EXIF orientation.

    `image` is the path as the dataset writes it, `image_path` where it was found (inside the
    image root); `image_path` is None where images were not asked for. `federated` is what a
    federated dataset says of the image's classes.
    """

    id: str
    image: str
    width: int
    height: int
    objects: tuple[GroundTruthObject, ...]
    image_path: Path | None = None
    image_id: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    federated: FederatedLabels | None = None


@dataclass(slots=True, kw_only=True)
class Rollout:
    """One line of rollouts.jsonl: what a model wrote for one image.

    `text` is verbatim, without the one final end token. `token_logprobs` are natural logs taken
    before any logits processor, one per entry of `token_ids` (the end token included).
    `scores` holds one confidence per *found* record, for outputs that come with their own.
    `guard` says what the loop guard saw: kind, onset, tokens_saved and more. `federated` are the
    sample's. `slots` is telemetry on its way to slots.parquet; it stands in no line.
    """

    id: str
    width: int
    height: int
    gt: tuple[GroundTruthObject, ...]
    text: str
    image: str | None = None
    image_id: int | None = None
    finish_reason: FinishReason | None = None
    token_ids: list[int] | None = None
    token_logprobs: list[float] | None = None
    prompt_tokens: int | None = None
    seconds: float | None = None
    error: str | None = None
    guard: dict[str, Any] | None = None
    sample_index: int = 0
    scores: list[float] | None = None
    federated: FederatedLabels | None = None
    slots: list[SlotReading] | None = None

    @property
    def failed(self) -> bool:
        """True where the engine, not the model, kept the answer from being made or finished."""
        return self.error is not None or self.finish_reason == "error"


class SlotReading(NamedTuple):
    """What the model's own distribution was at one coordinate slot, before any mask.

    A slot is a place in a geometry list where a coordinate is expected: `token` is the index of
    the token that was written there, `record` the found record, `slot` the position in its list
    (all 0-based), `kind` the geometry. `written_bin` is None where no coordinate token was written.
    `coord_mass` is the probability of the coordinate vocabulary as a whole; where an engine only
    knows its top tokens, the true mass lies between `coord_mass` and `coord_mass + mass_bound`.
    `top_bin` is the most probable bin, `entropy` (nats) that of the bins among themselves,
    `other_*` the most probable token outside the coordinate vocabulary. None: not known.
    """

    token: int
    record: int
    slot: int
    kind: GeometryKind
    written_id: int
    written_bin: int | None
    coord_mass: float | None
    mass_bound: float
    top_bin: int | None
    top_prob: float | None
    entropy: float | None
    other_id: int | None
    other_text: str | None
    other_prob: float | None


class FoundRecord(NamedTuple):
    """One record that the parser found, kept or dropped, in emission order.

    `start` and `end` are character offsets of the record in the text. `desc` and `values` are
    what could be read (values as written: bins, or pixels in a pixel dialect), also in dropped
    records; None where they could not be read. `reason` is None for a valid object. `detail`
    refines the reason (a key, `foreign_token`, ...), `evidence` is the offending text and
    `slot` the position inside the geometry list at which it stands (0 = first).
    """

    start: int
    end: int
    desc: str | None
    kind: GeometryKind | None
    values: tuple[int, ...] | None
    reason: str | None = None
    detail: str | None = None
    evidence: str | None = None
    slot: int | None = None


@dataclass(slots=True, kw_only=True)
class ParsedRollout:
    """What one text holds: every found record, and what is wrong with the text around them.

    Reconciles: `objects_found == objects_valid + sum(dropped_by_reason.values())`.
    `issues` maps issue names to how often each occurs; `notes` are those issues that do not
    spoil conformance.
    """

    records: list[FoundRecord]
    issues: dict[str, int]
    objects: list[FoundRecord]

    @property
    def drops(self) -> list[FoundRecord]:
        """The found records that were dropped, in emission order."""
        if len(self.objects) == len(self.records):
            return []
        return [record for record in self.records if record.reason is not None]

    @property
    def objects_found(self) -> int:
        """How many records were found."""
        return len(self.records)

    @property
    def objects_valid(self) -> int:
        """How many records are valid objects."""
        return len(self.objects)

    @property
    def dropped_by_reason(self) -> dict[str, int]:
        """Dropped records per reason; reasons that did not occur are absent."""
        return dict(Counter(record.reason for record in self.drops if record.reason is not None))

    @property
    def conforming(self) -> bool:
        """True where there is no drop and no issue beyond notes."""
        return len(self.objects) == len(self.records) and all(
            name in NOTE_ISSUES for name in self.issues
        )


NOTE_ISSUES = frozenset({"nonstandard_spacing", "coord_token_in_desc"})
"""Issues that are worth a note but leave a text conforming."""


__all__ = [
    "FINISH_REASONS",
    "FREQUENCIES",
    "GEOMETRY_KINDS",
    "NOTE_ISSUES",
    "Category",
    "FederatedLabels",
    "FinishReason",
    "FoundRecord",
    "Frequency",
    "GeometryKind",
    "GroundTruthObject",
    "ParsedRollout",
    "Rollout",
    "Sample",
    "SlotReading",
]
