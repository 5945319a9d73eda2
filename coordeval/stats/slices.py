"""Where a change sits: by class, by objects in the image, by object size and by crowding.

Right, wrong and missed objects at one IoU threshold, per slice. A pair belongs to the slice of its
ground truth; a wrong prediction to that of its own size or class, or of its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.iou import Shapes, box_edges
from coordeval.metrics.tables import UNKNOWN_LABEL, headline_row
from coordeval.stats.coco_matches import AREA_RANGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult

COUNT_EDGES = (1, 2, 5, 10, 20)
COUNT_NAMES = ("0", "1", "2-4", "5-9", "10-19", "20+")
SIZE_NAMES = {"s": "small (< 32 x 32 px)", "m": "medium", "l": "large (> 96 x 96 px)"}
CROWDING_NAMES = ("apart", "overlapping (IoU < .2)", "crowded (IoU >= .2)")
CROWDED_IOU = 0.2
PART_OBJECTS = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceCounts:
    """Right, wrong and missed objects per image for one way of slicing.

    All are sparse tables (images, slices). `wrong` is None where a wrong prediction cannot be put
    into a slice (crowding): recall only.
    """

    kind: str
    names: tuple[str, ...]
    right: Any
    wrong: Any | None
    missed: Any


def slice_counts(result: ScoreResult) -> list[SliceCounts]:
    """Counts by `objects` in the image, `size`, `crowding` and `class`."""
    rows = _Rows(result)
    return [
        _by_objects(result, rows),
        _by_size(result, rows),
        _by_crowding(result, rows),
        _by_class(result, rows),
    ]


class _Rows:
    """Outcome of every scored object at the headline threshold."""

    def __init__(self, result: ScoreResult) -> None:
        matched, columns = result.scored.aware, result.columns
        row = headline_row(matched)
        self.num_images = columns.num_images
        partner = matched.partner[row]
        wrong = (partner < 0) & ~matched.ignored[row]
        self.wrong = np.flatnonzero(wrong)
        ordinary = np.ones(len(columns.gt), dtype=bool)
        if result.protocol["crowd"] == "ignore":
            ordinary = ~columns.gt.crowd
        found = np.zeros(len(columns.gt), dtype=bool)
        found[partner[partner >= 0]] = True
        self.right = np.flatnonzero(ordinary & found)
        self.missed = np.flatnonzero(ordinary & ~found)
        self.gt_image = columns.gt.shapes.image
        self.pred_image = columns.pred.shapes.image

    def counts(
        self,
        kind: str,
        names: tuple[str, ...],
        gt_slice: NDArray[np.int64],
        pred_slice: NDArray[np.int64] | None,
    ) -> SliceCounts:
        def table(rows: NDArray[np.int64], image: NDArray[np.int64], of: NDArray[np.int64]) -> Any:
            ones = np.ones(len(rows), dtype=np.int32)
            entries = ones, (image[rows].astype(np.int32), of[rows].astype(np.int32))
            shape = self.num_images, len(names)
            return sparse.csr_array(sparse.coo_array(entries, shape=shape))

        return SliceCounts(
            kind=kind,
            names=names,
            right=table(self.right, self.gt_image, gt_slice),
            wrong=None if pred_slice is None else table(self.wrong, self.pred_image, pred_slice),
            missed=table(self.missed, self.gt_image, gt_slice),
        )


def _by_objects(result: ScoreResult, rows: _Rows) -> SliceCounts:
    gt = result.columns.gt
    number = np.bincount(gt.shapes.image[~gt.crowd], minlength=rows.num_images)
    image_slice = np.searchsorted(COUNT_EDGES, number, side="right")
    return rows.counts(
        "objects", COUNT_NAMES, image_slice[rows.gt_image], image_slice[rows.pred_image]
    )


def _by_size(result: ScoreResult, rows: _Rows) -> SliceCounts:
    limits = [AREA_RANGES[name][0] for name in ("m", "l")]
    boxes = result.columns.pred.shapes.boxes
    pred_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return rows.counts(
        "size",
        tuple(SIZE_NAMES.values()),
        np.searchsorted(limits, result.columns.gt.area, side="right"),
        np.searchsorted(limits, pred_area, side="right"),
    )


def _by_crowding(result: ScoreResult, rows: _Rows) -> SliceCounts:
    """By the largest box IoU with another object of the image, whatever its class."""
    most = _most_overlapped(result.columns.gt.shapes)
    gt_slice = np.where(most >= CROWDED_IOU, 2, np.where(most > 0, 1, 0))
    return rows.counts("crowding", CROWDING_NAMES, gt_slice, None)


def _most_overlapped(shapes: Shapes) -> NDArray[np.float64]:
    """Per object the largest box IoU with another one of its image, some thousand at a time."""
    most = np.zeros(len(shapes.image))
    first = 0
    while first < len(most):
        last_image = shapes.image[min(first + PART_OBJECTS, len(most)) - 1]
        stop = int(np.searchsorted(shapes.image, last_image, side="right"))
        part = Shapes(image=shapes.image[first:stop], boxes=shapes.boxes[first:stop], polygons={})
        pairs = box_edges(part, part, minimum=0.0)
        other = pairs.where((pairs.pred != pairs.gt) & (pairs.value > 0))
        np.maximum.at(most[first:stop], other.pred, other.value)
        first = stop
    return most


def _by_class(result: ScoreResult, rows: _Rows) -> SliceCounts:
    columns = result.columns
    unknown = len(columns.universe.names)
    code = columns.pred.class_code
    return rows.counts(
        "class",
        (*columns.universe.labels, UNKNOWN_LABEL),
        columns.gt.class_code,
        np.where(code == UNKNOWN_CLASS, unknown, code),
    )


__all__ = ["SliceCounts", "slice_counts"]
