"""COCO match tables: which detection finds which ground truth, once, so that draws need not match.

Some thousand detections of whole images are matched at a time (`coco_matching`); what stays are
some bytes per detection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.compact import Numbers
from coordeval.metrics.sparse_rows import SparseRows
from coordeval.stats.coco_matching import THRESHOLDS, CocoObjects, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "s": (0.0, 32.0**2),
    "m": (32.0**2, 96.0**2),
    "l": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100
PART_DETECTIONS = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoMatches:
    """Detections in the order in which COCO accumulates them, with their outcomes.

    D detections sorted by class, falling score, image, rank in the image; A area ranges
    (`AREA_RANGES`), T thresholds. `rank` (D) is the place among the image's detections of the
    class. `in_range` (A, D): the detection's own area is in the range. `right` (A x T rows, D):
    found an ordinary ground truth; `moved` (A x T rows, D): takes part although its own area is out
    of range, or the reverse. `positives` (images, A x classes; sparse) counts ordinary ground
    truth.
    """

    image: NDArray[np.int32]
    class_code: NDArray[np.int32]
    score: NDArray[np.float64]
    rank: NDArray[np.int16]
    in_range: NDArray[np.bool_]
    right: SparseRows
    moved: SparseRows
    positives: Any

    @property
    def num_areas(self) -> int:
        """How many area ranges there are."""
        return len(self.in_range)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return int(self.positives.shape[1]) // self.num_areas

    def counted(self, area: int, threshold: int) -> NDArray[np.bool_]:
        """Which detections (D) take part."""
        moved = self.moved[area * len(THRESHOLDS) + threshold]
        return np.asarray(self.in_range[area] ^ moved, dtype=np.bool_)


def match_coco(
    detections: CocoObjects,
    scores: NDArray[np.float64],
    truth: CocoObjects,
    crowd: NDArray[np.bool_],
    *,
    num_images: int,
    num_classes: int,
    num_areas: int = len(AREA_RANGES),
    max_detections: int = MAX_DETECTIONS,
    unsure: NDArray[np.bool_] | None = None,
) -> CocoMatches:
    """Match at every threshold and the first `num_areas` area ranges; both sides may be empty.

    Detections enter in the order of the rows wherever scores tie; `max_detections` is per image and
    class. A detection without a partner is wrong, unless it is `unsure`: then it takes no part.
    """
    crowd = np.asarray(crowd, dtype=bool)
    ranges = list(AREA_RANGES.values())[:num_areas]
    ignored = np.stack([crowd | _outside(truth.area, limits) for limits in ranges])
    found = _Found(num_areas)
    for rows, objects in _parts(detections.image, truth.image):
        part = detections.rows(rows)
        order, rank = _best(part, scores[rows], max_detections)
        best = part.rows(order)
        in_range = np.stack([~_outside(best.area, limits) for limits in ranges])
        right, counted = outcomes(
            best,
            rank,
            truth.rows(objects),
            crowd[objects],
            (ignored[:, objects], in_range),
            num_classes,
        )
        if unsure is not None:
            counted &= right | ~unsure[rows[order]]
        found.add(rows[order], rank, in_range, right, counted)
    return found.matches(detections, scores, _positives(truth, ignored, num_images, num_classes))


def _outside(area: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((area < limits[0]) | (area > limits[1]), dtype=bool)


def _best(
    detections: CocoObjects, scores: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of at most `limit` detections per image and class, and their places in it."""
    order = np.lexsort((-scores, detections.class_code, detections.image))
    image, code = detections.image[order], detections.class_code[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (image[1:] != image[:-1]) | (code[1:] != code[:-1])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    rank = np.arange(len(order)) - first
    kept = rank < limit
    return order[kept], rank[kept]


def _positives(
    truth: CocoObjects, ignored: NDArray[np.bool_], num_images: int, num_classes: int
) -> Any:
    from scipy import sparse

    area, row = np.nonzero(~ignored)
    column = area * num_classes + truth.class_code[row]
    ones = np.ones(len(row), dtype=np.int64)
    shape = (num_images, len(ignored) * num_classes)
    return sparse.csr_array(sparse.coo_array((ones, (truth.image[row], column)), shape=shape))


def _parts(
    image: NDArray[np.int64], truth_image: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of some thousand detections of whole images, and of the objects of these."""
    by_image, objects = (np.argsort(side, kind="stable") for side in (image, truth_image))
    first = 0
    while first < len(image):
        last = image[by_image[min(first + PART_DETECTIONS, len(image)) - 1]]
        stop = np.searchsorted(image, last, side="right", sorter=by_image)
        low = np.searchsorted(truth_image, image[by_image[first]], sorter=objects)
        high = np.searchsorted(truth_image, last, side="right", sorter=objects)
        yield by_image[first:stop], objects[low:high]
        first = int(stop)


class _Found:
    """What parts of the detections find, gathered part by part in a few bytes each."""

    def __init__(self, num_areas: int) -> None:
        self._row, self._rank = Numbers(np.int32), Numbers(np.int16)
        self._in_range = [Numbers(np.bool_) for _ in range(num_areas)]
        num_rows = num_areas * len(THRESHOLDS)
        self._right, self._moved = ([Numbers(np.int32) for _ in range(num_rows)] for _ in range(2))

    def add(
        self,
        rows: NDArray[np.int64],
        rank: NDArray[np.int64],
        in_range: NDArray[np.bool_],
        right: NDArray[np.bool_],
        counted: NDArray[np.bool_],
    ) -> None:
        """Outcomes (A, N) and (A, T, N) of detections (N), given by their rows."""
        first = len(self._row)
        self._row.extend(rows)
        self._rank.extend(rank)
        for held, flags in zip(self._in_range, in_range, strict=True):
            held.extend(flags)
        moved = counted ^ in_range[:, None]
        for gathered, part in ((self._right, right), (self._moved, moved)):
            for place, flags in zip(gathered, part.reshape(-1, len(rows)), strict=True):
                place.extend(first + np.flatnonzero(flags))

    def matches(
        self, detections: CocoObjects, scores: NDArray[np.float64], positives: Any
    ) -> CocoMatches:
        """All of them, in COCO's order."""
        rows, rank = self._row.array(), self._rank.array()
        image = detections.image[rows].astype(np.int32)
        code = detections.class_code[rows].astype(np.int32)
        score = scores[rows]
        final = np.lexsort((rank, image, -score, code))
        place = np.empty(len(final), dtype=np.int32)
        place[final] = np.arange(len(final), dtype=np.int32)
        return CocoMatches(
            image=image[final],
            class_code=code[final],
            score=score[final],
            rank=rank[final],
            in_range=np.stack([held.array()[final] for held in self._in_range]),
            right=_sparse(self._right, place),
            moved=_sparse(self._moved, place),
            positives=positives,
        )


def _sparse(gathered: Sequence[Numbers], place: NDArray[np.int32]) -> SparseRows:
    """Rows of flags that are set where `place` (detections) puts what was gathered."""
    out = SparseRows(fill=False)
    for held in gathered:
        row = np.zeros(len(place), dtype=bool)
        row[place[held.array()]] = True
        out.append(row)
    return out


__all__ = [
    "AREA_RANGES",
    "MAX_DETECTIONS",
    "THRESHOLDS",
    "CocoMatches",
    "CocoObjects",
    "match_coco",
]
