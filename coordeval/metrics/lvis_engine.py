"""Federated AP (LVIS) by the COCO engines: hotcoco in its LVIS style, else pycocotools.

pycocotools knows nothing of federated ground truth. Two rewritings make it say the same: detections
of classes that an image was not judged for are left out by the caller, and a class that was not
annotated exhaustively gets a crowd region as large as the plane, on which every detection without a
partner falls and is ignored.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.data.federated import NEGATIVE, NOT_EXHAUSTIVE
from coordeval.metrics.coco_engine import (
    CocoDetections,
    CocoTruth,
    default_engine,
    hotcoco_run,
    pycocotools_run,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.coco_engine import EngineName

MAX_DETECTIONS = 300
"""Per image, over all classes, as in LVIS v1."""
AREAS = ("all", "small", "medium", "large")
_PLANE_PX = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedTruth:
    """Ground truth, and per image id the category ids that are absent, or not exhaustive."""

    truth: CocoTruth
    negative: Mapping[int, Sequence[int]]
    not_exhaustive: Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedOutcome:
    """Precision (10 IoUs, 101 recalls, categories, 4 areas) and recall (10, categories, 4).

    -1 where a category has no ground truth (of that size); categories rise by id.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def evaluate_federated(
    federated: FederatedTruth, detections: CocoDetections, engine: EngineName | None = None
) -> FederatedOutcome:
    """Run one engine on boxes.

    `detections` are at most 300 per image, all of classes that their image was judged for; none at
    all is fine.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        if (engine or default_engine()) == "hotcoco":
            run = hotcoco_run(federated.truth, detections, federated=_facts(federated))
        else:
            run = pycocotools_run(_with_planes(federated), detections)
        run.params.maxDets = [MAX_DETECTIONS]
        run.evaluate()
        run.accumulate()
    return FederatedOutcome(
        precision=np.asarray(run.eval["precision"])[..., -1],
        recall=np.asarray(run.eval["recall"])[..., -1],
    )


def _facts(federated: FederatedTruth) -> dict[int, dict[str, Any]]:
    return {
        image: {
            NEGATIVE: list(federated.negative[image]),
            NOT_EXHAUSTIVE: list(federated.not_exhaustive[image]),
        }
        for image in federated.truth.image_ids.tolist()
    }


def _with_planes(federated: FederatedTruth) -> CocoTruth:
    """The ground truth with a crowd region everywhere for each class that is not exhaustive."""
    pairs = [
        (image, category)
        for image in federated.truth.image_ids.tolist()
        for category in federated.not_exhaustive[image]
    ]
    truth = federated.truth
    added = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    plane = np.array([-_PLANE_PX, -_PLANE_PX, 2 * _PLANE_PX, 2 * _PLANE_PX])
    return replace(
        truth,
        object_image=np.concatenate([truth.object_image, added[:, 0]]),
        object_category=np.concatenate([truth.object_category, added[:, 1]]),
        boxes_xywh=np.concatenate([truth.boxes_xywh, np.tile(plane, (len(added), 1))]),
        area=np.concatenate([truth.area, np.ones(len(added))]),
        crowd=np.concatenate([truth.crowd, np.ones(len(added), dtype=bool)]),
    )


__all__ = [
    "AREAS",
    "MAX_DETECTIONS",
    "FederatedOutcome",
    "FederatedTruth",
    "evaluate_federated",
]
