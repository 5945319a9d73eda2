"""The AP that the bin grid leaves: what a model could score that makes no mistake at all."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from coordeval.coords import FRAMES, CoordFrame, quantise
from coordeval.data.geometry import is_degenerate
from coordeval.data.objects import hull_px

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.records import Sample

_IOU_75, _IOU_95 = 5, 9  # positions of .75 and .95 among COCO's ten thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCeiling:
    """Scores of the ground truth on the grid against itself; None where there is nothing to score.

    `ap`, `ap75`, `ap95` are fractions (COCO AP over .50:.95, at .75, at .95). `mean_iou` and
    `min_iou` are over the boxes and their quantised selves, `below_95` the share with IoU < .95.
    `widened` counts boxes that would have collapsed.
    """

    num_boxes: int
    ap: float | None
    ap75: float | None
    ap95: float | None
    mean_iou: float | None
    min_iou: float | None
    below_95: float | None
    widened: int

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def grid_ceiling(samples: Iterable[Sample], frame: CoordFrame = FRAMES["coordexp"]) -> GridCeiling:
    """Quantise every box to its nearest bins and back, and score the result as predictions.

    The predictions are a perfect model's: each object once, in the right class, as near as its
    tokens can say. What is missing to 1 is the price of the grid alone; it falls on small objects
    in large images. Boxes and hulls of polygons count; crowd, lines and objects without extent
    are left out. All predictions have score 1, so that unlike scores cannot hide a miss.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    ids_of_name: dict[str, int] = {}
    ious: list[float] = []
    widened = 0
    for image_id, sample in enumerate(samples, start=1):
        images.append({"id": image_id, "width": sample.width, "height": sample.height})
        for obj in sample.objects:
            if obj.iscrowd or obj.kind == "line" or is_degenerate(obj):
                continue
            box = hull_px(obj)
            quantised = quantise(box, sample.width, sample.height, frame)
            widened += quantised.widened
            x1, y1, x2, y2 = frame.to_pixels(quantised.bins, sample.width, sample.height).tolist()
            ious.append(_iou(box, (x1, y1, x2, y2)))
            entry = {
                "image_id": image_id,
                "category_id": ids_of_name.setdefault(obj.desc, len(ids_of_name) + 1),
            }
            detections.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 1.0})
            annotations.append({**entry, **_annotation(box), "id": len(annotations) + 1})
    if not ious:
        return GridCeiling(
            num_boxes=0,
            ap=None,
            ap75=None,
            ap95=None,
            mean_iou=None,
            min_iou=None,
            below_95=None,
            widened=0,
        )
    # Numbers for names: the engine needs none, and a description may be no valid Unicode.
    categories = [{"id": number, "name": str(number)} for number in ids_of_name.values()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    ap, ap75, ap95 = _average_precision(document, detections)
    return GridCeiling(
        num_boxes=len(ious),
        ap=ap,
        ap75=ap75,
        ap95=ap95,
        mean_iou=sum(ious) / len(ious),
        min_iou=min(ious),
        below_95=sum(iou < 0.95 for iou in ious) / len(ious),
        widened=widened,
    )


def _annotation(box: tuple[float, float, float, float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    # A constant area: COCO would leave out what is larger than 1e10, and no size classes are asked.
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0}


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    # Coordinates beyond 1e150 overflow; such a box shares nothing with its bins.
    return common / union if math.isfinite(union) else 0.0


def _average_precision(
    document: dict[str, Any], detections: list[dict[str, Any]]
) -> tuple[float, float, float]:
    """COCO AP over all thresholds, at .75 and at .95 (all areas, 100 detections)."""
    import numpy as np

    engine, evaluator = _coco_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = engine()
        truth.dataset = document
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # thresholds, recall points, classes; all areas, 100 detections; -1 where a class has no object
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    ap, ap75, ap95 = (
        float(part[part > -1].mean())
        for part in (precision, precision[_IOU_75], precision[_IOU_95])
    )
    return ap, ap75, ap95


def _coco_classes() -> tuple[Any, Any]:
    """COCO and COCOeval of hotcoco where it imports, else of pycocotools: the numbers are equal."""
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        from pycocotools import coco, cocoeval

        return coco.COCO, cocoeval.COCOeval
    return COCO, COCOeval


__all__ = ["GridCeiling", "grid_ceiling"]
