"""Rollouts beside the headline (sample_index >= 1): read as they come, laid out per sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.columns import OtherSample, RecordColumns
from coordeval.metrics.compact import Numbers, Texts, Values, Whole
from coordeval.parsers import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.columns import PredColumns
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

    Parts = Iterator[tuple[slice, RecordColumns]]
    Predictions = Callable[[Parts], PredColumns]

PART_IMAGES = 256


@dataclass(slots=True)
class _Sample:
    """One sample_index: per rollout its id, whether its engine failed, and its first record.

    Of the valid records what the metrics need: name, kind and values.
    """

    ids: list[str] = field(default_factory=list)
    failed: Numbers = field(default_factory=lambda: Numbers(np.bool_))
    first: Whole = field(default_factory=Whole)
    desc: Texts = field(default_factory=Texts)
    kind: Texts = field(default_factory=Texts)
    values: Values = field(default_factory=Values)

    def records_of(self, number: int) -> slice:
        """The rows of one rollout's records."""
        is_last = number + 1 == len(self.ids)
        return slice(self.first[number], len(self.desc) if is_last else self.first[number + 1])


class OtherSamples:
    """Collects rollouts of other samples; the length is how many were added."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._samples: dict[int, _Sample] = {}

    def __len__(self) -> int:
        return sum(len(sample.ids) for sample in self._samples.values())

    def add(self, rollout: Rollout) -> None:
        """Parse one rollout and keep its valid records; an engine error has none."""
        sample = self._samples.setdefault(rollout.sample_index, _Sample())
        sample.ids.append(rollout.id)
        sample.failed.extend([rollout.failed])
        sample.first.append(len(sample.desc))
        if not rollout.failed:
            objects = parse(rollout.text, self._dialect).objects
            sample.desc.extend(record.desc for record in objects)
            sample.kind.extend(record.kind for record in objects)
            sample.values.extend(record.values for record in objects)

    def descs(self) -> Iterator[str]:
        """The descriptions of all valid records, each once per sample."""
        for sample in self._samples.values():
            yield from sample.desc.distinct()

    def by_index(self, ids: Sequence[str], predictions: Predictions) -> tuple[OtherSample, ...]:
        """One entry per sample_index, in rising order; `ids` are the headline's, in run order.

        `predictions` turns records into columns, part by part: images of the run, all of them in
        order, with their records (`image` counts from the first of the part). Size and ground truth
        of an image are the headline's; rollouts of ids without a headline are left out.
        """
        place = {key: row for row, key in enumerate(ids)}
        return tuple(
            _laid_out(index, self._samples[index], place, predictions)
            for index in sorted(self._samples)
        )


def _laid_out(
    index: int, sample: _Sample, place: dict[str, int], predictions: Predictions
) -> OtherSample:
    rollout_of = np.full(len(place), -1, dtype=np.int64)
    for number, key in enumerate(sample.ids):
        if key in place:
            rollout_of[place[key]] = number
    there = rollout_of >= 0
    failed = np.zeros(len(place), dtype=bool)
    failed[there] = sample.failed.array()[rollout_of[there]]
    return OtherSample(
        sample_index=index,
        done=there & ~failed,
        failed=failed,
        pred=predictions(_parts(sample, rollout_of)),
    )


def _parts(sample: _Sample, rollout_of: NDArray[np.int64]) -> Parts:
    """The images in parts with their records; `rollout_of` (images) is -1 where there is none."""
    for first in range(0, len(rollout_of), PART_IMAGES):
        records, images = RecordColumns(), slice(first, first + PART_IMAGES)
        for image, number in enumerate(rollout_of[images].tolist()):
            if number < 0:
                continue
            rows = sample.records_of(number)
            records.image.extend([image] * (rows.stop - rows.start))
            records.desc.extend(sample.desc.part(rows.start, rows.stop))
            records.kind.extend(sample.kind.part(rows.start, rows.stop))
            records.values.extend(sample.values.part(rows.start, rows.stop))
        yield images, records


__all__ = ["OtherSamples"]
