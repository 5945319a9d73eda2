"""The outcome of scoring: flat metrics, and tables that are built when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.metrics import tables
from coordeval.metrics.names.table import mapping_document
from coordeval.metrics.objects_table import objects_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.duplicates import Duplicates
    from coordeval.metrics.f1 import Matched
    from coordeval.metrics.health import Flags
    from coordeval.metrics.loops import LoopFinding
    from coordeval.metrics.names.table import NameRow
    from coordeval.metrics.oracle import Oracle
    from coordeval.metrics.protocols import Protocol
    from coordeval.metrics.slot_columns import Slots

METRICS_FORMAT = "coordeval-metrics/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Matches of all predictions: class-aware, class-agnostic, and without exact repeats."""

    aware: Matched
    agnostic: Matched
    deduplicated: Matched
    best_iou: NDArray[np.float64]


class WorstImage(NamedTuple):
    """One image with many failures, and what they are (counts at IoU .50 or the first one)."""

    id: str
    failures: int
    tp: int
    fp: int
    fn: int
    drops: int
    loop: bool


@dataclass(kw_only=True)
class ScoreResult:
    """Everything that scoring found out; only `to_json` and the tables go to disk.

    `metrics` maps flat keys to numbers or None; `status` is complete, partial or empty.
    `reading` says with which dialect and frame the texts were read. `loops` are all loops with
    their places. `columns` holds the scored predictions (see `Columns`). `slots` is telemetry,
    `oracle` what other samples found, None without; `guarded` says that a loop guard watched.
    `rules` is the protocol itself, `names` how each name found its class where that is more than
    being equal.
    """

    metrics: dict[str, float | int | None]
    status: str
    protocol: dict[str, Any]
    versions: dict[str, str]
    score_source: str
    reading: dict[str, Any]
    columns: Columns = field(repr=False)
    scored: Scored = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    flags: Flags = field(repr=False)
    duplicates: Duplicates = field(repr=False)
    loops: list[LoopFinding] = field(repr=False)
    per_class_ap: dict[int, tuple[float | None, float | None]] = field(repr=False)
    slots: Slots | None = field(default=None, repr=False)
    guarded: bool = False
    oracle: Oracle | None = field(default=None, repr=False)
    rules: Protocol | None = field(default=None, repr=False)
    names: tuple[NameRow, ...] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return {
            "format": METRICS_FORMAT,
            "status": self.status,
            "protocol": self.protocol,
            "versions": self.versions,
            "score_source": self.score_source,
            "reading": self.reading,
            "metrics": self.metrics,
        }

    @cached_property
    def per_image(self) -> pd.DataFrame:
        """One row per image: sufficient statistics of every metric that is a sum over images."""
        return tables.per_image_table(self)

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """One row per class, and one for unknown names: counts, precision, recall, F1, AP."""
        return tables.per_class_table(self)

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row per found record and per ground-truth object, in the order of the run."""
        return objects_table(self)

    @cached_property
    def coco_results(self) -> list[dict[str, Any]]:
        """The detections as a COCO results list (classes of the universe only)."""
        return tables.coco_results(self)

    @cached_property
    def name_mapping(self) -> dict[str, Any] | None:
        """The content of name_mapping.json; None where names only had to be equal."""
        if self.names is None or self.rules is None or self.rules.names is None:
            return None
        return mapping_document(self.rules.names, self.names)

    def loops_of(self, image_id: str) -> list[LoopFinding]:
        """The loops in one image's text, by place; empty where there are none."""
        wanted = {entry.index for entry in self.columns.images if entry.id == image_id}
        return [loop for loop in self.loops if loop.image in wanted]

    def worst_images(self, count: int = 10) -> list[WorstImage]:
        """The images with the most wrong, missed and dropped objects; ties in run order."""
        return tables.worst_images(self, count)


__all__ = ["METRICS_FORMAT", "ScoreResult", "Scored", "WorstImage"]
