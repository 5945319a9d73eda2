"""Rollouts to columns: parse every text once, check what must hold, lay everything out flat.

Rollouts go through in parts: what is large about them (texts, tokens, parsed records) is held for
the rollouts of one part only.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from coordeval.errors import DataError
from coordeval.metrics.columns import Columns, ImageEntry, RecordColumns, WrittenPart
from coordeval.metrics.layout import Layout
from coordeval.metrics.other_samples import OtherSamples
from coordeval.parsers import parse
from coordeval.parsers.dialects import value_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.metrics.protocols import Protocol
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category, GroundTruthObject, ParsedRollout, Rollout

PART_ROLLOUTS = 256
PART_CHARS = 1 << 22
_NO_ISSUES: Mapping[str, int] = {}


def collect(
    rollouts: Iterable[Rollout],
    *,
    dialect: Dialect,
    frame: CoordFrame,
    categories: Sequence[Category] | None,
    protocol: Protocol,
    dataset_classes: Sequence[Category] | None = None,
    progress: Callable[[int], None] | None = None,
    each_part: Callable[[WrittenPart], None] | None = None,
    source: str = "the run",
) -> Columns:
    """Read rollouts into columns: sample_index 0 is what is scored, the rest goes to `others`.

    Raises DataError where an (id, sample_index) stands twice, or where `scores` has another
    length than there are found records; what the protocol's way of matching names raises.
    `categories` are the classes to score over, `dataset_classes` those that category ids of the
    run mean (by default the same). Rollouts with an engine error keep their ground truth
    and lose their text. Errors name the run by `source`. `progress` is called with the number of
    rollouts read so far.

    `each_part` sees some hundred images at a time, in the order of the run, with their tokens; it
    may pack them (`ImageEntry.pack`). Without it all tokens are kept.
    """
    layout = Layout(protocol, value_frame(dialect, frame))
    once = _Once(source)
    others = OtherSamples(dialect)
    part = _Part()
    num_read = 0

    def finish_part() -> None:
        layout.add(part.images, part.records, part.truth, part.scores)
        if each_part is not None:
            each_part(part.written())

    for rollout in rollouts:
        once.check(rollout)
        if rollout.sample_index != 0:
            others.add(rollout)
            continue
        part.add(rollout, num_read, len(layout.records), dialect)
        num_read += 1
        if part.is_full:
            finish_part()
            part = _Part()
        if progress is not None:
            progress(num_read)
    finish_part()
    return layout.columns(
        others,
        categories=categories,
        dataset_classes=(categories if dataset_classes is None else dataset_classes) or (),
    )


class _Once:
    """Refuses an (id, sample_index) that comes again in what `source` names."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._read = 0
        self._headline: set[str] = set()
        self._others: set[tuple[str, int]] = set()

    def check(self, rollout: Rollout) -> None:
        """Remember a rollout; the ids of the headline are held as they are, most being those."""
        index = rollout.sample_index
        self._read += 1
        if rollout.id in self._headline if index == 0 else (rollout.id, index) in self._others:
            raise DataError(
                f"{self._source}: id {rollout.id!r} (sample_index {index}) stands twice, again "
                f"as rollout {self._read:,}; keep one line for each"
            )
        if index == 0:
            self._headline.add(rollout.id)
        else:
            self._others.add((rollout.id, index))


@dataclass(slots=True)
class _Part:
    """Some rollouts, parsed; `records.image` counts from the first of them."""

    images: list[ImageEntry] = field(default_factory=list)
    records: RecordColumns = field(default_factory=RecordColumns)
    truth: list[tuple[GroundTruthObject, ...]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    chars: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.images) >= PART_ROLLOUTS or self.chars >= PART_CHARS

    def add(self, rollout: Rollout, index: int, first_record: int, dialect: Dialect) -> None:
        """Parse a rollout; `first_record` records stand before this part."""
        first_record += len(self.records)
        entry, parsed = _read_rollout(rollout, index, first_record, dialect)
        if parsed is not None:
            _append_records(self.records, parsed, len(self.images))
        if entry.has_scores:
            self.scores.extend(rollout.scores or ())
        self.images.append(entry)
        self.truth.append(rollout.gt)
        self.chars += len(rollout.text)

    def written(self) -> WrittenPart:
        """Its texts and records."""
        image = np.asarray(list(self.records.image), dtype=np.int64)
        return WrittenPart(images=self.images, records=self.records, record_image=image)


def _read_rollout(
    rollout: Rollout, index: int, first_record: int, dialect: Dialect
) -> tuple[ImageEntry, ParsedRollout | None]:
    failed = rollout.failed
    parsed = None if failed else parse(rollout.text, dialect)
    issues = _NO_ISSUES
    num_found = num_valid = 0
    if parsed is not None:
        if parsed.issues:
            issues = dict(parsed.issues)
        if rollout.finish_reason == "loop_guard":
            issues = {**issues, "stopped_by_guard": 1}
        num_found, num_valid = len(parsed.records), len(parsed.objects)
        if rollout.scores is not None and len(rollout.scores) != num_found:
            raise DataError(
                f"id {rollout.id!r}: {len(rollout.scores)} scores for {num_found} found records; "
                "'scores' needs one number per found record, dropped ones included"
            )
    entry = ImageEntry(
        index=index,
        id=rollout.id,
        image=rollout.image,
        # Lines of others may carry names here; only numbers can serve as COCO image ids.
        image_id=rollout.image_id if type(rollout.image_id) is int else None,
        width=rollout.width,
        height=rollout.height,
        failed=failed,
        finish_reason=rollout.finish_reason and sys.intern(rollout.finish_reason),
        error=rollout.error,
        written="" if failed else rollout.text,
        issues=issues,
        conforming=parsed is not None
        and parsed.conforming
        and rollout.finish_reason != "loop_guard",
        first_record=first_record,
        num_found=num_found,
        num_valid=num_valid,
        num_gt_written=len(rollout.gt),
        has_scores=not failed and rollout.scores is not None,
        num_tokens=None if failed or rollout.token_ids is None else len(rollout.token_ids),
        token_ids=None
        if failed or rollout.token_ids is None
        else np.asarray(rollout.token_ids, dtype=np.int64),
        token_logprobs=None
        if failed or rollout.token_logprobs is None
        else np.asarray(rollout.token_logprobs, dtype=np.float64),
        guard=rollout.guard if not failed and isinstance(rollout.guard, dict) else None,
        federated=rollout.federated,
    )
    return entry, parsed


def _append_records(records: RecordColumns, parsed: ParsedRollout, index: int) -> None:
    if not parsed.records:
        return
    start, end, desc, kind, values, reason, detail, evidence, slot = zip(
        *parsed.records, strict=True
    )
    records.image.extend([index] * len(start))
    records.start.extend(start)
    records.end.extend(end)
    records.desc.extend(desc)
    records.kind.extend(kind)
    records.values.extend(values)
    records.reason.extend(reason)
    records.detail.extend(detail)
    records.evidence.extend(evidence)
    records.slot.extend(slot)


__all__ = ["collect"]
