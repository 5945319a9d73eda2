"""Federated AP as LVIS defines it, where the data set says which classes an image was judged for.

Gupta, Dollar, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
and the package `lvis` 0.5.3, on boxes:

- of an image only detections of classes count that have ground truth in it (positive) or that are
  known to be absent (negative); all others are left out;
- a detection without a partner whose class was not annotated exhaustively is ignored;
- at most the 300 best detections of an image, over all classes;
- AP over IoU .50:.95, the mean over classes that have ground truth; APr, APc, APf over the rare,
  common and frequent ones. Crowd marks are unknown to LVIS and are not heeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import to_xywh
from coordeval.metrics.coco_engine import CocoDetections, CocoTruth
from coordeval.metrics.lvis_engine import (
    AREAS,
    MAX_DETECTIONS,
    FederatedTruth,
    evaluate_federated,
)
from coordeval.records import FREQUENCIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.coco_engine import EngineName
    from coordeval.metrics.columns import Columns
    from coordeval.metrics.lvis_engine import FederatedOutcome

AP_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
AR_KEYS = tuple(f"AR{size}@{MAX_DETECTIONS}" for size in ("", "s", "m", "l"))
_AT_50, _AT_75 = 0, 5


def lvis_metrics(
    columns: Columns, scores: NDArray[np.float64], engine: EngineName | None = None
) -> dict[str, float | None]:
    """`lvis/*` over the images that carry federated labels; {} where none does.

    `scores` are of `columns.pred`. `lvis/images` counts those images, `lvis/unjudged` detections
    of classes that their image was not judged for, `lvis/over_limit` those beyond 300 per image.
    The numbers are None where a class with ground truth has no category id, so that nobody knows
    which images were judged for it.
    """
    images = federated_images(columns)
    if not len(images):
        return {}
    judged = judged_rows(columns, scores, images)
    out: dict[str, float | None] = {
        "lvis/images": len(images),
        "lvis/unjudged": int(judged.unjudged.sum()),
        "lvis/over_limit": int(judged.over_limit.sum()),
    }
    if not _ids_known(columns, images):
        return out | {f"lvis/{key}": None for key in (*AP_KEYS, *AR_KEYS)}
    rows = np.flatnonzero(judged.kept)
    outcome = evaluate_federated(
        _truth(columns, images),
        CocoDetections(
            object_image=columns.pred.shapes.image[rows] + 1,
            object_category=columns.pred.class_code[rows] + 1,
            boxes_xywh=to_xywh(columns.pred.shapes.boxes[rows]),
            scores=scores[rows],
        ),
        engine,
    )
    return out | _summary(outcome, columns)


def federated_images(columns: Columns) -> NDArray[np.int64]:
    """The images that say which classes they were judged for, in run order."""
    return np.array(
        [entry.index for entry in columns.images if entry.federated is not None], dtype=np.int64
    )


class Judged(NamedTuple):
    """Per prediction whether it takes part, is of a class nobody looked for, or one too many."""

    kept: NDArray[np.bool_]
    unjudged: NDArray[np.bool_]
    over_limit: NDArray[np.bool_]


def judged_rows(columns: Columns, scores: NDArray[np.float64], images: NDArray[np.int64]) -> Judged:
    """What becomes of each of `columns.pred` (with `scores`) in the federated `images`."""
    pred, gt = columns.pred, columns.gt
    step = len(columns.universe.names) + 1
    known = (pred.class_code != UNKNOWN_CLASS) & np.isin(pred.shapes.image, images)
    best = _within_limit(pred.shapes.image, scores, known)
    looked_for = [gt.shapes.image * step + gt.class_code]
    for image in images.tolist():
        labels = columns.images[image].federated
        assert labels is not None
        codes = class_codes(columns, labels.negative_ids)
        looked_for.append(np.array(codes, dtype=np.int64) + image * step)
    asked = np.isin(pred.shapes.image * step + pred.class_code, np.concatenate(looked_for))
    return Judged(kept=best & asked, unjudged=best & ~asked, over_limit=known & ~best)


def _within_limit(
    image: NDArray[np.int64], scores: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The 300 best predictions of each image; the earlier ones of a tie."""
    rows = np.flatnonzero(known)
    rows = rows[np.lexsort((rows, -scores[rows], image[rows]))]
    first = np.searchsorted(image[rows], image[rows], side="left")
    out = np.zeros(len(known), dtype=bool)
    out[rows[np.arange(len(rows)) - first < MAX_DETECTIONS]] = True
    return out


def class_codes(columns: Columns, category_ids: Sequence[int]) -> list[int]:
    """Class codes of category ids; ids of classes outside the universe have none and no matter."""
    known = columns.category_codes
    return sorted({known[number] for number in category_ids if number in known})


def _ids_known(columns: Columns, images: NDArray[np.int64]) -> bool:
    present = columns.gt.class_code[np.isin(columns.gt.shapes.image, images)]
    return bool(np.isin(present, list(columns.category_codes.values())).all())


def _truth(columns: Columns, images: NDArray[np.int64]) -> FederatedTruth:
    """Ground truth of those images; image and category ids are positions, from 1."""
    gt = columns.gt
    rows = np.flatnonzero(np.isin(gt.shapes.image, images))
    negative, not_exhaustive = {}, {}
    for image in images.tolist():
        labels = columns.images[image].federated
        assert labels is not None
        negative[image + 1] = [code + 1 for code in class_codes(columns, labels.negative_ids)]
        not_exhaustive[image + 1] = [
            code + 1 for code in class_codes(columns, labels.not_exhaustive_ids)
        ]
    return FederatedTruth(
        truth=CocoTruth(
            image_ids=images + 1,
            sizes_wh=columns.sizes_wh[images],
            category_ids=np.arange(1, len(columns.universe.names) + 1),
            object_image=gt.shapes.image[rows] + 1,
            object_category=gt.class_code[rows] + 1,
            boxes_xywh=to_xywh(gt.shapes.boxes[rows]),
            area=gt.area[rows],
            crowd=np.zeros(len(rows), dtype=bool),
        ),
        negative=negative,
        not_exhaustive=not_exhaustive,
    )


def _summary(outcome: FederatedOutcome, columns: Columns) -> dict[str, float | None]:
    precision, recall = outcome.precision, outcome.recall
    everywhere = precision[..., 0]
    found = {
        "AP": everywhere,
        "AP50": everywhere[_AT_50],
        "AP75": everywhere[_AT_75],
    }
    for place, size in enumerate(AREAS):
        if place:
            found[f"AP{size[0]}"] = precision[..., place]
        letter = size[0] if place else ""
        found[f"AR{letter}@{MAX_DETECTIONS}"] = recall[..., place]
    for letter in FREQUENCIES:
        codes = [code for code, value in columns.frequency.items() if value == letter]
        found[f"AP{letter}"] = everywhere[:, :, sorted(codes)]
    return {f"lvis/{key}": _mean_known(found[key]) for key in (*AP_KEYS, *AR_KEYS)}


def _mean_known(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if len(known) else None


__all__ = [
    "AP_KEYS",
    "AR_KEYS",
    "Judged",
    "class_codes",
    "federated_images",
    "judged_rows",
    "lvis_metrics",
]
