"""Rollouts beside the headline (sample_index >= 1): read as they come, laid out per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.metrics.columns import OtherSample, RecordColumns
from coordeval.parsers import parse
from coordeval.records import GeometryKind  # noqa: TC001 - a named tuple needs it at run time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.columns import PredColumns
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

    Predictions = Callable[[RecordColumns, NDArray[np.int64], NDArray[np.bool_]], PredColumns]


class _Kept(NamedTuple):
    """What the metrics need of one rollout: name, kind and values of its valid records.

    `records` is None where the engine failed.
    """

    id: str
    records: list[tuple[str | None, GeometryKind | None, tuple[int, ...] | None]] | None


class OtherSamples:
    """Collects rollouts of other samples; the length is how many were added."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: dict[int, list[_Kept]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, rollout: Rollout) -> None:
        """Parse one rollout and keep its valid records; an engine error has none."""
        self._length += 1
        kept = None
        if not rollout.failed:
            objects = parse(rollout.text, self._dialect).objects
            kept = [(record.desc, record.kind, record.values) for record in objects]
        self._kept.setdefault(rollout.sample_index, []).append(_Kept(rollout.id, kept))

    def descs(self) -> Iterator[str | None]:
        """The descriptions of all valid records."""
        for rollouts in self._kept.values():
            for rollout in rollouts:
                yield from (desc for desc, _, _ in rollout.records or ())

    def by_index(self, ids: Sequence[str], predictions: Predictions) -> tuple[OtherSample, ...]:
        """One entry per sample_index, in rising order; `ids` are the headline's, in run order.

        `predictions` turns records, their image rows and a mask into columns. Size and ground
        truth of an image are the headline's; rollouts of ids without a headline are left out.
        """
        place = {key: row for row, key in enumerate(ids)}
        return tuple(
            _laid_out(index, self._kept[index], place, predictions) for index in sorted(self._kept)
        )


def _laid_out(
    index: int, rollouts: Sequence[_Kept], place: dict[str, int], predictions: Predictions
) -> OtherSample:
    known = [rollout for rollout in rollouts if rollout.id in place]
    records = RecordColumns()
    done, failed = np.zeros((2, len(place)), dtype=bool)
    for rollout in sorted(known, key=lambda rollout: place[rollout.id]):
        row, kept = place[rollout.id], rollout.records
        if kept is None:
            failed[row] = True
            continue
        done[row] = True
        records.image.extend([row] * len(kept))
        for desc, kind, values in kept:
            records.desc.append(desc)
            records.kind.append(kind)
            records.values.append(values)
    image = np.asarray(records.image, dtype=np.int64)
    valid = np.ones(len(records), dtype=bool)
    return OtherSample(
        sample_index=index,
        done=done,
        failed=failed,
        pred=predictions(records, image, valid),
    )


__all__ = ["OtherSamples"]
