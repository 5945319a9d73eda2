"""COCO: a results list, and the ground-truth document that its ids refer to.

Format: https://cocodataset.org/#format-results and #format-data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.counted import counted
from coordeval.data.federated import write_federated
from coordeval.exchange.scored_objects import image_ids
from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.coco import to_xywh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.exchange.export_context import ExportContext, Files
    from coordeval.metrics.result import ScoreResult

RESULTS_NAME = "results.json"
GROUND_TRUTH_NAME = "ground_truth.json"


def coco_files(result: ScoreResult, context: ExportContext) -> tuple[Files, list[str]]:
    """`results.json` and `ground_truth.json`; together they give the run's AP in any COCO tool.

    Remarks: predictions without a class, and ground truth that is not scored, have no place there.
    """
    del context
    columns = result.columns
    unknown = int(np.count_nonzero(columns.pred.class_code == UNKNOWN_CLASS))
    zero, lines = int(columns.gt.zero_area.sum()), int(columns.gt.lines.sum())
    remarks = [
        f"left out: {counted(count, noun)}{rest}"
        for count, noun, rest in (
            (unknown, "prediction", " with a name outside the classes"),
            (int(np.count_nonzero(~columns.record_valid)), "dropped record", ""),
            (zero, "ground-truth object", " without area"),
            (lines, "ground-truth line", ""),
        )
        if count
    ]
    files: Files = {
        RESULTS_NAME: result.coco_results,
        GROUND_TRUTH_NAME: ground_truth_document(result),
    }
    return files, remarks


def ground_truth_document(result: ScoreResult) -> dict[str, Any]:
    """The scored ground truth of a run as a COCO document; an empty run gives empty lists.

    Where the run holds polygons, a box has its rectangle as its mask, as it has for `coco_segm`:
    COCO tools that compare masks ask every annotation for one.
    """
    columns, universe = result.columns, result.columns.universe
    ids = image_ids(result)
    return {
        "info": {"description": "scored ground truth of a coordeval run"},
        "images": [
            {
                "id": number,
                "file_name": entry.image or entry.id,
                "width": entry.width,
                "height": entry.height,
                **write_federated(entry.federated),
            }
            for number, entry in zip(ids, columns.images, strict=True)
        ],
        "annotations": _annotations(result, ids),
        "categories": [
            {"id": number, "name": label}
            | ({"frequency": columns.frequency[code]} if code in columns.frequency else {})
            for code, (number, label) in enumerate(zip(universe.ids, universe.labels, strict=True))
        ],
    }


def _annotations(result: ScoreResult, ids: Sequence[int]) -> list[dict[str, Any]]:
    columns, gt = result.columns, result.columns.gt
    boxes = to_xywh(gt.shapes.boxes).tolist()
    outlines = gt.shapes.polygons
    with_masks = bool(outlines or columns.pred.shapes.polygons)
    annotations = []
    for row, image in enumerate(gt.shapes.image.tolist()):
        annotation: dict[str, Any] = {
            "id": row + 1,
            "image_id": ids[image],
            "category_id": columns.universe.ids[int(gt.class_code[row])],
            "bbox": boxes[row],
            "area": float(gt.area[row]),
            "iscrowd": int(gt.crowd[row]),
        }
        if with_masks:
            x1, y1, x2, y2 = gt.shapes.boxes[row].tolist()
            outline = outlines.get(row, [x1, y1, x2, y1, x2, y2, x1, y2])
            annotation["segmentation"] = [list(outline)]
        annotations.append(annotation)
    return annotations


__all__ = ["coco_files", "ground_truth_document"]
