"""LVIS's federated numbers of resampled data sets, from match tables, without matching again.

The rules are those of `coordeval.metrics.lvis`: detections of classes that an image was not judged
for are left out before matching, and where a class was not annotated exhaustively a crowd region
as large as the plane takes every detection without a partner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from coordeval.metrics.coco import to_xywh
from coordeval.metrics.lvis import federated_parts
from coordeval.metrics.lvis_engine import AREAS, MAX_DETECTIONS, with_planes
from coordeval.records import FREQUENCIES
from coordeval.stats.coco_draws import average_precision, precision_table
from coordeval.stats.coco_matches import CocoObjects, match_coco
from coordeval.stats.coco_stats import SIZED_KEYS, mean_known, mean_recall, recall_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.lvis import FederatedParts
    from coordeval.metrics.lvis_engine import FederatedTruth
    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.coco_matches import CocoMatches

_AT_50, _AT_75 = 0, 5


def lvis_replicates(
    result: ScoreResult, weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """`lvis/*` for draws (B, images) of a run: one value per draw, NaN where there is none.

    AP by size has the first row and half of the others, as in `CocoStatistics`. Without federated
    labels there is nothing; the counts alone where nobody knows what was judged.
    """
    parts = federated_parts(result.columns, result.scores)
    if parts is None:
        return {}
    out = _counts(result, parts, weights)
    if parts.truth is not None:
        matches = _matches(result, parts, parts.truth)
        out |= _recalls(matches, weights) | _precisions(result, matches, weights)
    return {f"lvis/{key}": values for key, values in out.items()}


def _counts(
    result: ScoreResult, parts: FederatedParts, weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    num_images, image = result.columns.num_images, result.columns.pred.shapes.image
    per_image = {
        "images": np.bincount(parts.images, minlength=num_images),
        "unjudged": np.bincount(image[parts.unjudged], minlength=num_images),
        "over_limit": np.bincount(image[parts.over_limit], minlength=num_images),
    }
    return {key: (weights @ counts).astype(np.float64) for key, counts in per_image.items()}


def _matches(result: ScoreResult, parts: FederatedParts, federated: FederatedTruth) -> CocoMatches:
    columns, pred = result.columns, result.columns.pred
    truth, rows = with_planes(federated), np.flatnonzero(parts.kept)
    boxes = to_xywh(pred.shapes.boxes[rows])
    return match_coco(
        CocoObjects(
            image=pred.shapes.image[rows],
            class_code=pred.class_code[rows],
            boxes_xywh=boxes,
            area=boxes[:, 2] * boxes[:, 3],
        ),
        result.scores[rows],
        CocoObjects(
            image=truth.object_image - 1,
            class_code=truth.object_category - 1,
            boxes_xywh=truth.boxes_xywh,
            area=truth.area,
        ),
        truth.crowd,
        num_images=columns.num_images,
        num_classes=len(columns.universe.names),
        limit=MAX_DETECTIONS,
    )


def _positives(matches: CocoMatches, weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Objects to find per draw, area range and class."""
    areas, num_images, num_classes = matches.positives.shape
    flat = matches.positives.transpose(1, 0, 2).reshape(num_images, areas * num_classes)
    summed = weights @ sparse.csr_array(flat.astype(np.int64))
    return np.asarray(summed).reshape(len(weights), areas, num_classes)


def _recalls(matches: CocoMatches, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    positives = _positives(matches, weights)
    out = {}
    for area, name in enumerate(AREAS):
        found = weights @ recall_table(matches, area, MAX_DETECTIONS)
        letter = name[0] if area else ""
        out[f"AR{letter}@{MAX_DETECTIONS}"] = mean_recall(found, positives[:, area])
    return out


def _precisions(
    result: ScoreResult, matches: CocoMatches, weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    every, sized = precision_table(matches.areas(0, 1)), precision_table(matches.areas(1, 4))
    positives = _positives(matches, weights)
    frequency = result.columns.frequency
    codes = {
        f"AP{letter}": sorted(code for code, value in frequency.items() if value == letter)
        for letter in FREQUENCIES
    }
    num_draws, half = len(weights), 1 + len(weights) // 2
    out = {key: np.full(num_draws, np.nan) for key in ("AP", "AP50", "AP75", *codes)}
    out |= {key: np.full(min(half, num_draws), np.nan) for key in SIZED_KEYS}
    for row, drawn in enumerate(weights):
        (by_class,) = average_precision(every, drawn, positives[row, :1])
        out["AP"][row] = mean_known(by_class)
        out["AP50"][row] = mean_known(by_class[_AT_50])
        out["AP75"][row] = mean_known(by_class[_AT_75])
        for key, those in codes.items():
            out[key][row] = mean_known(by_class[:, those])
        if row < half:
            by_size = average_precision(sized, drawn, positives[row, 1:])
            for key, values in zip(SIZED_KEYS, by_size, strict=True):
                out[key][row] = mean_known(values)
    return out


__all__ = ["lvis_replicates"]
