"""Rollouts to columns: parse every text once, check what must hold, lay everything out flat."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from coordeval.errors import DataError
from coordeval.metrics.classes import NAME_RULES
from coordeval.metrics.columns import (
    Columns,
    GtColumns,
    ImageEntry,
    RecordColumns,
)
from coordeval.metrics.geometry import polygon_area, whole_pixels_clamped
from coordeval.metrics.iou import Shapes, areas
from coordeval.metrics.names.matching import find_classes
from coordeval.metrics.other_samples import OtherSamples
from coordeval.metrics.pred_columns import pred_columns
from coordeval.parsers import parse
from coordeval.parsers.dialects import value_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.metrics.columns import PredColumns
    from coordeval.metrics.protocols import Protocol
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category, GroundTruthObject, ParsedRollout, Rollout


def collect(
    rollouts: Iterable[Rollout],
    *,
    dialect: Dialect,
    frame: CoordFrame,
    categories: Sequence[Category] | None,
    protocol: Protocol,
    dataset_classes: Sequence[Category] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Columns:
    """Read rollouts into columns: sample_index 0 is what is scored, the rest goes to `others`.

    Raises DataError where an (id, sample_index) stands twice, or where `scores` has another
    length than there are found records; what the protocol's way of matching names raises.
    `categories` are the classes to score over, `dataset_classes` those that category ids of the
    run mean (by default the same). Rollouts with an engine error keep their ground truth
    and lose their text. `progress` is called with the number of rollouts read so far.
    """
    images: list[ImageEntry] = []
    records = RecordColumns()
    gt: list[tuple[int, tuple[GroundTruthObject, ...]]] = []
    seen: set[tuple[str, int]] = set()
    others = OtherSamples(dialect)
    for rollout in rollouts:
        key = (rollout.id, rollout.sample_index)
        if key in seen:
            raise DataError(
                f"id {rollout.id!r} (sample_index {rollout.sample_index}) stands twice in the run; "
                "keep one line for each"
            )
        seen.add(key)
        if rollout.sample_index != 0:
            others.add(rollout)
            continue
        entry, parsed = _read_rollout(rollout, len(images), len(records), dialect)
        if parsed is not None:
            _append_records(records, parsed, entry.index)
        images.append(entry)
        gt.append((entry.index, rollout.gt))
        if progress is not None:
            progress(len(images))
    columns = _lay_out(
        images,
        records,
        gt,
        others,
        dialect=dialect,
        frame=frame,
        categories=categories,
        protocol=protocol,
        dataset_classes=categories if dataset_classes is None else dataset_classes,
    )
    columns.extra["other_samples"] = len(others)
    return columns


def _read_rollout(
    rollout: Rollout, index: int, first_record: int, dialect: Dialect
) -> tuple[ImageEntry, ParsedRollout | None]:
    failed = rollout.failed
    parsed = None if failed else parse(rollout.text, dialect)
    issues: dict[str, int] = {}
    num_found = num_valid = 0
    if parsed is not None:
        issues = dict(parsed.issues)
        if rollout.finish_reason == "loop_guard":
            issues["stopped_by_guard"] = 1
        num_found, num_valid = len(parsed.records), len(parsed.objects)
        if rollout.scores is not None and len(rollout.scores) != num_found:
            raise DataError(
                f"id {rollout.id!r}: {len(rollout.scores)} scores for {num_found} found records; "
                "'scores' needs one number per found record, dropped ones included"
            )
    entry = ImageEntry(
        index=index,
        id=rollout.id,
        image=rollout.image,
        # Lines of others may carry names here; only numbers can serve as COCO image ids.
        image_id=rollout.image_id if type(rollout.image_id) is int else None,
        width=rollout.width,
        height=rollout.height,
        failed=failed,
        finish_reason=rollout.finish_reason,
        error=rollout.error,
        text="" if failed else rollout.text,
        issues=issues,
        conforming=parsed is not None
        and parsed.conforming
        and rollout.finish_reason != "loop_guard",
        first_record=first_record,
        num_found=num_found,
        num_valid=num_valid,
        num_gt_written=len(rollout.gt),
        scores=None if failed else rollout.scores,
        token_ids=None
        if failed or rollout.token_ids is None
        else np.asarray(rollout.token_ids, dtype=np.int64),
        token_logprobs=None
        if failed or rollout.token_logprobs is None
        else np.asarray(rollout.token_logprobs, dtype=np.float64),
        guard=rollout.guard if not failed and isinstance(rollout.guard, dict) else None,
        federated=rollout.federated,
    )
    return entry, parsed


def _append_records(records: RecordColumns, parsed: ParsedRollout, index: int) -> None:
    if not parsed.records:
        return
    start, end, desc, kind, values, reason, detail, evidence, slot = zip(
        *parsed.records, strict=True
    )
    records.image.extend([index] * len(start))
    records.start.extend(start)
    records.end.extend(end)
    records.desc.extend(desc)
    records.kind.extend(kind)
    records.values.extend(values)
    records.reason.extend(reason)
    records.detail.extend(detail)
    records.evidence.extend(evidence)
    records.slot.extend(slot)


def _lay_out(
    images: list[ImageEntry],
    records: RecordColumns,
    gt: list[tuple[int, tuple[GroundTruthObject, ...]]],
    others: OtherSamples,
    *,
    dialect: Dialect,
    frame: CoordFrame,
    categories: Sequence[Category] | None,
    protocol: Protocol,
    dataset_classes: Sequence[Category] | None,
) -> Columns:
    normalise = _Memo(NAME_RULES[protocol.name_rule])
    names = find_classes(
        protocol.names,
        categories=categories,
        truth=(obj.desc for _, objects in gt for obj in objects),
        predicted=(desc for desc in chain(records.desc, others.descs()) if desc is not None),
        normalise=normalise,
        category_ids=_category_ids(gt, normalise),
    )
    codes = names.codes
    sizes_wh = np.array([(entry.width, entry.height) for entry in images], dtype=np.int64)
    sizes_wh = sizes_wh.reshape(-1, 2)
    gt_columns = _gt_columns(gt, len(images), normalise, codes)
    record_image = np.asarray(records.image, dtype=np.int64)
    record_valid = np.array([reason is None for reason in records.reason], dtype=bool)
    pixel_frame = value_frame(dialect, frame)

    def predictions(
        records: RecordColumns, image: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> PredColumns:
        pred = pred_columns(records, image, valid, sizes_wh, pixel_frame, normalise, codes)
        if protocol.boxes == "whole_pixels_clamped":
            pred = replace(pred, shapes=whole_pixels_clamped(pred.shapes, sizes_wh))
        return pred

    if protocol.boxes == "whole_pixels_clamped":
        shapes = whole_pixels_clamped(gt_columns.shapes, sizes_wh)
        gt_columns = replace(gt_columns, shapes=shapes, area=areas(shapes.boxes))
    return Columns(
        images=images,
        records=records,
        record_image=record_image,
        record_valid=record_valid,
        gt=gt_columns,
        pred=predictions(records, record_image, record_valid),
        names=names,
        sizes_wh=sizes_wh,
        alive=np.array([not entry.failed for entry in images], dtype=bool),
        others=others.by_index([entry.id for entry in images], predictions),
        category_codes=_category_codes(gt, dataset_classes or (), normalise, codes),
        frequency={
            codes[normalise[category.name]]: category.frequency
            for category in dataset_classes or ()
            if category.frequency is not None and normalise[category.name] in codes
        },
    )


class _Memo(dict[str, str]):
    """Descriptions to normalised ones; each distinct description is normalised once."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, desc: str) -> str:
        self[desc] = result = self._rule(desc)
        return result


def _category_ids(
    gt: list[tuple[int, tuple[GroundTruthObject, ...]]], normalise: dict[str, str]
) -> dict[str, int]:
    ids: dict[str, int] = {}
    for _, objects in gt:
        for obj in objects:
            if obj.category_id is not None:
                ids.setdefault(normalise[obj.desc], obj.category_id)
    return ids


def _category_codes(
    gt: list[tuple[int, tuple[GroundTruthObject, ...]]],
    dataset_classes: Sequence[Category],
    normalise: dict[str, str],
    codes: Mapping[str, int],
) -> dict[int, int]:
    """Class code per category id of the dataset: by its class list, and by its objects."""
    out = {
        obj.category_id: codes[normalise[obj.desc]]
        for _, objects in gt
        for obj in objects
        if obj.category_id is not None
    }
    for category in dataset_classes:
        code = codes.get(normalise[category.name])
        if code is not None:
            out[category.id] = code
    return out


def _gt_columns(
    gt: list[tuple[int, tuple[GroundTruthObject, ...]]],
    num_images: int,
    normalise: dict[str, str],
    codes: Mapping[str, int],
) -> GtColumns:
    image: list[int] = []
    boxes: list[tuple[float, ...]] = []
    polygons: dict[int, tuple[float, ...]] = {}
    area: list[float] = []
    crowd: list[bool] = []
    desc: list[str] = []
    zero_area = np.zeros(num_images, dtype=np.int64)
    lines = np.zeros(num_images, dtype=np.int64)
    for index, objects in gt:
        for obj in objects:
            if obj.kind == "line":
                lines[index] += 1
                continue
            box, geometric_area = _hull_and_area(obj)
            if geometric_area <= 0:
                zero_area[index] += 1
                continue
            if obj.kind == "poly":
                polygons[len(image)] = obj.values_px
            image.append(index)
            boxes.append(box)
            area.append(geometric_area if obj.area is None else obj.area)
            crowd.append(obj.iscrowd)
            desc.append(obj.desc)
    shapes = Shapes(
        image=np.asarray(image, dtype=np.int64),
        boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        polygons=polygons,
    )
    return GtColumns(
        shapes=shapes,
        class_code=np.array([codes[normalise[name]] for name in desc], dtype=np.int64),
        crowd=np.asarray(crowd, dtype=bool),
        area=np.asarray(area, dtype=np.float64),
        desc=desc,
        zero_area=zero_area,
        lines=lines,
    )


def _hull_and_area(obj: GroundTruthObject) -> tuple[tuple[float, ...], float]:
    values = obj.values_px
    if obj.kind == "bbox_2d":
        x1, y1, x2, y2 = values
        return values, max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
    xs, ys = values[0::2], values[1::2]
    return (min(xs), min(ys), max(xs), max(ys)), polygon_area(values)


__all__ = ["collect"]
