"""Federated AP (LVIS) of a run under resampling, by the match tables of COCO's numbers.

What LVIS adds lies within an image, so that copies of an image bring it along: which detections
take part, and that one without a partner is ignored where its class was not annotated exhaustively.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.coco import to_xywh
from coordeval.metrics.lvis import (
    AP_KEYS,
    AR_KEYS,
    class_codes,
    federated_images,
    judged_rows,
)
from coordeval.metrics.lvis_engine import MAX_DETECTIONS
from coordeval.records import FREQUENCIES
from coordeval.stats.coco_matches import CocoObjects, match_coco
from coordeval.stats.coco_stats import draw_coco
from coordeval.stats.recipes import Total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.coco_matches import CocoMatches
    from coordeval.stats.image_table import ImageTable
    from coordeval.stats.recipes import Recipe

_RECALLS = tuple((name, area, MAX_DETECTIONS) for area, name in enumerate(AR_KEYS))


def lvis_draws(
    result: ScoreResult, weights: NDArray[np.integer[Any]]
) -> dict[str, NDArray[np.float64]]:
    """`lvis/AP...` and `lvis/AR...` per draw, `weights` being (draws, images); NaN without value.

    The numbers of a data set in which each image stands so often. APs, APm and APl are of fewer
    draws, as those of COCO are. For runs whose metrics have a value for `lvis/AP`.
    """
    frequency = result.columns.frequency
    groups = {
        f"AP{letter}": np.array(
            sorted(code for code, value in frequency.items() if value == letter), dtype=np.int64
        )
        for letter in FREQUENCIES
    }
    drawn = draw_coco(lvis_matches(result), weights, recalls=_RECALLS, groups=groups)
    return {f"lvis/{key}": drawn[key] for key in (*AP_KEYS, *AR_KEYS)}


def lvis_matches(result: ScoreResult) -> CocoMatches:
    """Match a scored run as LVIS does, on the images that carry federated labels.

    Crowd marks are not heeded. Images without labels hold nothing.
    """
    columns, pred, gt = result.columns, result.columns.pred, result.columns.gt
    images = federated_images(columns)
    rows = np.flatnonzero(judged_rows(columns, result.scores, images).kept)
    boxes = to_xywh(pred.shapes.boxes[rows])
    detections = CocoObjects(
        image=pred.shapes.image[rows],
        class_code=pred.class_code[rows],
        boxes_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
    )
    inside = np.flatnonzero(np.isin(gt.shapes.image, images))
    truth = CocoObjects(
        image=gt.shapes.image[inside],
        class_code=gt.class_code[inside],
        boxes_xywh=to_xywh(gt.shapes.boxes[inside]),
        area=gt.area[inside],
    )
    return match_coco(
        detections,
        result.scores[rows],
        truth,
        np.zeros(len(inside), dtype=bool),
        num_images=columns.num_images,
        num_classes=len(columns.universe.names),
        max_detections=MAX_DETECTIONS,
        unsure=_not_exhaustive(columns, images, detections),
    )


def _not_exhaustive(
    columns: Columns, images: NDArray[np.int64], detections: CocoObjects
) -> NDArray[np.bool_]:
    """Detections of a class of which their image may hold more than is annotated."""
    step = len(columns.universe.names) + 1
    pairs = []
    for image in images.tolist():
        labels = columns.images[image].federated
        assert labels is not None
        pairs += [image * step + code for code in class_codes(columns, labels.not_exhaustive_ids)]
    keys = np.array(pairs, dtype=np.int64)
    return np.isin(detections.image * step + detections.class_code, keys)


def lvis_recipes(result: ScoreResult, table: ImageTable) -> dict[str, Recipe]:
    """Recipes of `lvis/*` that are counts; their columns are added to `table`.

    Empty for a run without federated labels.
    """
    columns = result.columns
    images = federated_images(columns)
    if not len(images):
        return {}
    judged = judged_rows(columns, result.scores, images)
    image = columns.pred.shapes.image
    counted = {
        "images": images,
        "unjudged": image[judged.unjudged],
        "over_limit": image[judged.over_limit],
    }
    for name, where in counted.items():
        table.add(f"lvis_{name}", np.bincount(where, minlength=columns.num_images))
    return {f"lvis/{name}": Total(f"lvis_{name}") for name in counted}


__all__ = ["lvis_draws", "lvis_matches", "lvis_recipes"]
