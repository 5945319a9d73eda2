"""The COCO evaluation engines behind one function: hotcoco where it imports, else pycocotools.

Both get validated columns, never broken boxes, and give pycocotools' twelve numbers.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

EngineName = Literal["hotcoco", "pycocotools"]
COCO_KEYS: tuple[str, ...] = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoTruth:
    """Ground truth as COCO sees it. `boxes_xywh` (G, 4); `masks` are run-lengths, or None."""

    image_ids: NDArray[np.int64]
    sizes_wh: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    object_image: NDArray[np.int64]
    object_category: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    masks: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoDetections:
    """Detections as COCO sees them, in the order in which ties are kept."""

    object_image: NDArray[np.int64]
    object_category: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    masks: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoOutcome:
    """The twelve numbers (None where COCO says -1) and AP per category id (None likewise)."""

    stats: dict[str, float | None]
    ap_by_category: dict[int, float | None]
    ap50_by_category: dict[int, float | None]


def default_engine() -> EngineName:
    """`hotcoco` where it imports, else `pycocotools`."""
    try:
        import hotcoco  # noqa: F401
    except ImportError:
        return "pycocotools"
    return "hotcoco"


def engine_versions() -> dict[str, str]:
    """Installed versions of the engines, by name."""
    return {name: version(name) for name in sorted({"pycocotools", default_engine()})}


def evaluate(
    truth: CocoTruth, detections: CocoDetections, engine: EngineName | None = None
) -> CocoOutcome:
    """Run one engine. Empty ground truth or detections are fine; masks give mask AP."""
    with contextlib.redirect_stdout(io.StringIO()):
        if (engine or default_engine()) == "hotcoco":
            run = hotcoco_run(truth, detections)
        else:
            run = pycocotools_run(truth, detections)
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats = [float(value) for value in run.stats]
    precision = np.asarray(run.eval["precision"])[:, :, :, 0, -1]
    categories = [int(category) for category in run.params.catIds]
    return CocoOutcome(
        stats={key: _or_none(value) for key, value in zip(COCO_KEYS, stats, strict=True)},
        ap_by_category=_by_category(precision, categories),
        ap50_by_category=_by_category(precision[:1], categories),
    )


def _or_none(value: float) -> float | None:
    return None if value < 0 else value


def _by_category(
    precision_TRK: NDArray[np.float64],  # noqa: N803  shape suffix
    categories: list[int],
) -> dict[int, float | None]:
    out: dict[int, float | None] = {}
    for column, category in enumerate(categories):
        values = precision_TRK[:, :, column]
        out[category] = float(values.mean()) if values.size and values.min() > -1 else None
    return out


def _images(truth: CocoTruth) -> list[dict[str, Any]]:
    return [
        {"id": image_id, "width": width, "height": height}
        for image_id, (width, height) in zip(
            truth.image_ids.tolist(), truth.sizes_wh.tolist(), strict=True
        )
    ]


def _categories(truth: CocoTruth) -> list[dict[str, Any]]:
    return [{"id": number, "name": str(number)} for number in truth.category_ids.tolist()]


def hotcoco_run(
    truth: CocoTruth,
    detections: CocoDetections,
    *,
    federated: Mapping[int, Mapping[str, Any]] | None = None,
) -> Any:
    """A hotcoco COCOeval, ready to evaluate; in LVIS style with `federated` (image id -> lists)."""
    from hotcoco import COCO, COCOeval

    columns: dict[str, Any] = {"area": truth.area, "iscrowd": truth.crowd}
    if truth.masks is not None:
        columns["segmentation"] = list(truth.masks)
    images, categories = _images(truth), _categories(truth)
    if federated is not None:
        images = [image | dict(federated[image["id"]]) for image in images]
    gt = COCO.from_arrays(
        images,
        categories,
        truth.object_image,
        truth.object_category,
        truth.boxes_xywh,
        **columns,
    )
    if len(detections.scores):
        dt = _hotcoco_results(gt, detections)
    else:
        dt = COCO.from_arrays(
            images,
            categories,
            detections.object_image,
            detections.object_category,
            detections.boxes_xywh,
            area=np.zeros(0),
            segmentation=[],
        )
    iou_type = "bbox" if truth.masks is None else "segm"
    return COCOeval(gt, dt, iou_type, lvis_style=federated is not None)


def _hotcoco_results(gt: Any, detections: CocoDetections) -> Any:
    if detections.masks is not None:
        return gt.loadRes(_mask_results(detections))
    table = np.column_stack(
        [
            detections.object_image.astype(np.float64),
            detections.boxes_xywh,
            detections.scores,
            detections.object_category.astype(np.float64),
        ]
    )
    return gt.loadRes(table)


def pycocotools_run(truth: CocoTruth, detections: CocoDetections) -> Any:
    """A pycocotools COCOeval, ready to evaluate."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, image, category, box, area, crowd in zip(
            range(1, len(truth.object_image) + 1),
            truth.object_image.tolist(),
            truth.object_category.tolist(),
            truth.boxes_xywh.tolist(),
            truth.area.tolist(),
            truth.crowd.tolist(),
            strict=True,
        )
    ]
    if truth.masks is not None:
        for annotation, mask in zip(annotations, truth.masks, strict=True):
            annotation["segmentation"] = mask
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": _images(truth),
        "categories": _categories(truth),
        "annotations": annotations,
    }
    gt.createIndex()
    if not len(detections.scores):
        # loadRes refuses an empty list, which is a legitimate outcome.
        dt = COCO()
        dt.dataset = {**gt.dataset, "annotations": []}
        dt.createIndex()
    elif detections.masks is not None:
        dt = gt.loadRes(_mask_results(detections))
    else:
        dt = gt.loadRes(_box_results(detections))
    return COCOeval(gt, dt, "bbox" if truth.masks is None else "segm")


def _box_results(detections: CocoDetections) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(
            detections.object_image.tolist(),
            detections.object_category.tolist(),
            detections.boxes_xywh.tolist(),
            detections.scores.tolist(),
            strict=True,
        )
    ]


def _mask_results(detections: CocoDetections) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": category, "segmentation": mask, "score": score}
        for image, category, mask, score in zip(
            detections.object_image.tolist(),
            detections.object_category.tolist(),
            detections.masks or (),
            detections.scores.tolist(),
            strict=True,
        )
    ]


__all__ = [
    "COCO_KEYS",
    "CocoDetections",
    "CocoOutcome",
    "CocoTruth",
    "EngineName",
    "default_engine",
    "engine_versions",
    "evaluate",
    "hotcoco_run",
    "pycocotools_run",
]
