"""The COCO evaluation engines behind one function: hotcoco where it imports, else pycocotools.

Both get validated columns, never broken boxes, and give pycocotools' twelve numbers.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PART_OBJECTS = 1 << 16
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
    """Run one engine. Empty ground truth or detections are fine; masks give mask AP.

    COCO's numbers are means over classes that know nothing of each other. So a large run goes
    through the engine some classes at a time, in the order of their ids, and the means are taken
    over all: the same numbers to the last bit, in the memory of the largest part.
    """
    parts = [
        _evaluate_part(part, its_detections, engine)
        for part, its_detections in parts_by_category(truth, detections, PART_OBJECTS)
    ]
    precision = np.concatenate([part.precision for part in parts], axis=2)
    if len(parts) == 1:
        stats = parts[0].stats
    else:
        recall = np.concatenate([part.recall for part in parts], axis=1)
        stats = coco_stats(precision, recall)
    categories = [category for part in parts for category in part.categories]
    headline = precision[:, :, :, 0, -1]
    return CocoOutcome(
        stats={key: _or_none(value) for key, value in zip(COCO_KEYS, stats, strict=True)},
        ap_by_category=_by_category(headline, categories),
        ap50_by_category=_by_category(headline[:1], categories),
    )


class _Part(NamedTuple):
    """What an engine says of some classes: its twelve numbers, and the tables behind them.

    `precision` (thresholds, recall points, classes, areas, limits), `recall` without the points.
    """

    stats: list[float]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    categories: list[int]


def _evaluate_part(
    truth: CocoTruth, detections: CocoDetections, engine: EngineName | None
) -> _Part:
    with contextlib.redirect_stdout(io.StringIO()):
        if (engine or default_engine()) == "hotcoco":
            run = hotcoco_run(truth, detections)
        else:
            run = pycocotools_run(truth, detections)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return _Part(
        stats=[float(value) for value in run.stats],
        precision=np.array(run.eval["precision"]),
        recall=np.array(run.eval["recall"]),
        categories=[int(category) for category in run.params.catIds],
    )


def parts_by_category(
    truth: CocoTruth, detections: CocoDetections, most_objects: int
) -> Iterator[tuple[CocoTruth, CocoDetections]]:
    """Classes in the order of their ids, as many at once as have `most_objects` together.

    A class with more than that is a part of its own. Everything is one part where it fits.
    """
    if len(truth.object_image) + len(detections.object_image) <= most_objects:
        yield truth, detections
        return
    ids = np.unique(truth.category_ids)
    place = np.concatenate([truth.object_category, detections.object_category])
    sizes = np.bincount(np.searchsorted(ids, place), minlength=len(ids)).tolist()
    first, held = 0, 0
    for number, size in enumerate(sizes):
        if held and held + size > most_objects:
            yield _of_categories(truth, detections, ids[first:number])
            first, held = number, 0
        held += size
    yield _of_categories(truth, detections, ids[first:])


def _of_categories(
    truth: CocoTruth, detections: CocoDetections, ids: NDArray[np.int64]
) -> tuple[CocoTruth, CocoDetections]:
    """The objects of some categories, and the images that hold any of them."""
    of_truth = np.flatnonzero(np.isin(truth.object_category, ids))
    of_detections = np.flatnonzero(np.isin(detections.object_category, ids))
    object_image = truth.object_image[of_truth]
    detection_image = detections.object_image[of_detections]
    images = np.isin(truth.image_ids, np.concatenate([object_image, detection_image]))
    return (
        CocoTruth(
            image_ids=truth.image_ids[images],
            sizes_wh=truth.sizes_wh[images],
            category_ids=ids,
            object_image=object_image,
            object_category=truth.object_category[of_truth],
            boxes_xywh=truth.boxes_xywh[of_truth],
            area=truth.area[of_truth],
            crowd=truth.crowd[of_truth],
            masks=_rows(truth.masks, of_truth),
        ),
        CocoDetections(
            object_image=detection_image,
            object_category=detections.object_category[of_detections],
            boxes_xywh=detections.boxes_xywh[of_detections],
            scores=detections.scores[of_detections],
            masks=_rows(detections.masks, of_detections),
        ),
    )


def _rows(masks: Sequence[Any] | None, rows: NDArray[np.int64]) -> list[Any] | None:
    return None if masks is None else [masks[row] for row in rows.tolist()]


def coco_stats(
    precision: NDArray[np.float64],  # (T, R, K, A, M)
    recall: NDArray[np.float64],  # (T, K, A, M)
) -> list[float]:
    """COCO's twelve numbers from an engine's tables, -1 where nothing is known.

    As pycocotools' `summarize` takes them: means over all that is not -1. Areas are all, small,
    medium, large; limits 1, 10, 100 detections.
    """
    parts = [
        precision[..., 0, 2],
        precision[:1, ..., 0, 2],
        precision[5:6, ..., 0, 2],
        *(precision[..., area, 2] for area in (1, 2, 3)),
        *(recall[..., 0, limit] for limit in (0, 1, 2)),
        *(recall[..., area, 2] for area in (1, 2, 3)),
    ]
    known = [part[part > -1] for part in parts]
    return [float(part.mean()) if len(part) else -1.0 for part in known]


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
