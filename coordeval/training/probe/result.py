"""What a probe found out, and how it lies on the disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.atomic import FileSet
from coordeval.errors import DataError
from coordeval.jsonl import dump_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyarrow import Table

    from coordeval.stats.changes import Change
    from coordeval.training.probe.rows import Context

PROBE_FORMAT = "coordeval-probe/1"
METRICS_NAME, SETTINGS_NAME, SLOTS_NAME = "metrics.json", "probe.json", "slots.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextResult:
    """One context: its metrics over all its texts, and what they were taken over.

    The labels of a ground-truth text and of an own rollout are what is written there. `origins`
    counts texts by where their token ids come from.
    """

    texts: int
    metrics: Mapping[str, float | None]
    counts: Mapping[str, int]
    origins: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "texts": self.texts,
            **self.counts,
            "origins": dict(self.origins),
            "metrics": dict(self.metrics),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureBias:
    """Own rollout context less ground truth context.

    `same_boxes`: on the boxes that the rollout found (F1's matcher, IoU 0.50), held against the
    ground truth in both contexts. `all_tokens`: on all tokens of both texts, each against
    what is written there. Both over the `images` that have both texts; `boxes` counts the former.
    """

    images: int
    boxes: int
    same_boxes: Mapping[str, Change]
    all_tokens: Mapping[str, Change]

    def to_json(self) -> dict[str, Any]:
        """Plain data: per context the metrics on the same boxes, and the differences."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "ground_truth_context": {key: change.a for key, change in self.same_boxes.items()},
            "own_rollout_context": {key: change.b for key, change in self.same_boxes.items()},
            "same_boxes": {key: _difference(change) for key, change in self.same_boxes.items()},
            "all_tokens": {key: _difference(change) for key, change in self.all_tokens.items()},
        }


def _difference(change: Change) -> dict[str, Any]:
    raw = asdict(change)
    return {
        "ground_truth_context": raw["a"],
        "own_rollout_context": raw["b"],
        "difference": raw["delta"],
        **{
            name: raw[name]
            for name in ("low", "high", "p", "p_adjusted", "images_differ", "verdict")
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeError:
    """A text that could not be probed, and why."""

    id: str
    context: Context
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Everything about one probe; `settings` is what probe.json holds.

    `status` is `complete`, `partial` (texts failed, or it was stopped) or `empty`. `skipped` counts
    texts that there was nothing to probe in, by reason. `stopped_by` is the exit code of the signal
    that stopped the pass, None where it went to its end.
    """

    name: str
    status: str
    settings: dict[str, Any]
    protocol: dict[str, Any]
    contexts: Mapping[Context, ContextResult]
    exposure: ExposureBias | None
    errors: tuple[ProbeError, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]
    slots: Table = field(repr=False)
    stopped_by: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json; `metrics` are those of the first context that was probed."""
        first = next(iter(self.contexts.values()), None)
        return {
            "format": PROBE_FORMAT,
            "status": self.status,
            "protocol": self.protocol,
            "versions": self.settings["versions"],
            "metrics": {} if first is None else dict(first.metrics),
            "contexts": {name: part.to_json() for name, part in self.contexts.items()},
            "exposure_bias": None if self.exposure is None else self.exposure.to_json(),
            "errors": len(self.errors),
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }

    def settings_json(self) -> dict[str, Any]:
        """The content of probe.json."""
        return {
            "format": PROBE_FORMAT,
            **self.settings,
            "status": self.status,
            "errors": [asdict(error) for error in self.errors],
        }


def write_probe(result: ProbeResult, folder: Path) -> None:
    """Write slots.parquet, probe.json and metrics.json, the last one last; old ones are replaced.

    Raises DataError where the folder cannot be written.
    """
    import pyarrow.parquet as pq

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileSet() as files:
            # pyarrow takes no path that is not valid UTF-8
            with files.new(folder / SLOTS_NAME).open("wb") as handle:
                pq.write_table(result.slots, handle)
            for name, document in (
                (SETTINGS_NAME, result.settings_json()),
                (METRICS_NAME, result.to_json()),
            ):
                files.new(folder / name).write_bytes(dump_document(document) + b"\n")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


__all__ = [
    "PROBE_FORMAT",
    "ContextResult",
    "ExposureBias",
    "ProbeError",
    "ProbeResult",
    "write_probe",
]
