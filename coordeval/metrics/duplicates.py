"""Repeated objects, exact and near, over all readable records in the order they were written.

Exact: same normalised description and the same coordinate values as an earlier record. Near:
not exact, same normalised description, and IoU >= 0.90 with an earlier record. Dropped records
take part when their description and values can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.emission import emission_order, in_order
from coordeval.metrics.iou import polygon_rle
from coordeval.metrics.near import NEAR_IOU, near_earlier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.metrics.columns import Written

LARGEST_COORDINATE = 10**9
MASK_CANVAS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Per record: a key (equal for equal records of one image), readable, exact, near.

    `key` is the row of the first equal record; unreadable records are keyed by their raw text.
    """

    key: NDArray[np.int64]
    readable: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]


def find_duplicates(columns: Written, name_of: dict[str, str]) -> Duplicates:
    """Mark exact and near repeats; `name_of` maps a description to its normalised form."""
    order = emission_order(columns)
    if order is None:
        return _in_rows(columns, name_of)
    found = _in_rows(in_order(columns, order), name_of)
    rows = np.argsort(order)
    return Duplicates(
        key=order[found.key][rows],
        readable=found.readable[rows],
        exact=found.exact[rows],
        near=found.near[rows],
    )


def _in_rows(columns: Written, name_of: dict[str, str]) -> Duplicates:
    """The same for records that stand in the order in which they were written."""
    records = columns.records
    num = len(records)
    readable = np.array(
        [
            desc is not None and values is not None
            for desc, values in zip(records.desc, records.values, strict=True)
        ],
        dtype=bool,
    )
    key = _record_keys(columns, name_of, all_readable=bool(readable.all()))
    repeated = key != np.arange(num)
    exact = repeated & readable
    near = np.zeros(num, dtype=bool)
    boxes, rows, group = _first_boxes(columns, name_of, readable & ~repeated)
    near[rows] = near_earlier(boxes, group)
    for row in _near_polygons(columns, name_of, readable & ~repeated):
        near[row] = True
    return Duplicates(key=key, readable=readable, exact=exact, near=near)


def _record_keys(
    columns: Written, name_of: dict[str, str], *, all_readable: bool
) -> NDArray[np.int64]:
    records, images = columns.records, columns.images
    keys: Iterator[object]
    if all_readable:
        names = [name_of[desc] for desc in records.desc]  # type: ignore[index]
        keys = zip(records.image, names, records.kind, records.values, strict=True)
    else:
        keys = (
            (image, name_of[desc], kind, values)
            if desc is not None and values is not None
            else (image, images[image].text[start:end])
            for image, desc, kind, values, start, end in zip(
                records.image,
                records.desc,
                records.kind,
                records.values,
                records.start,
                records.end,
                strict=True,
            )
        )
    first: dict[object, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)


def _first_boxes(
    columns: Written, name_of: dict[str, str], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Boxes as written (N, 4), their record rows, and one number per (image, name)."""
    records = columns.records
    rows = [
        row
        for row in np.flatnonzero(wanted).tolist()
        if records.kind[row] == "bbox_2d" and _comparable(records.values[row], 4, 4)
    ]
    groups: dict[tuple[int, str], int] = {}
    group = np.array(
        [
            groups.setdefault((records.image[row], name_of[records.desc[row] or ""]), len(groups))
            for row in rows
        ],
        dtype=np.int64,
    )
    boxes = np.array([records.values[row] for row in rows], dtype=np.float64).reshape(-1, 4)
    positive = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[positive], np.asarray(rows, dtype=np.int64)[positive], group[positive]


def _comparable(values: tuple[int, ...] | None, least: int, most: int | None = None) -> bool:
    """Whether values can be a geometry; absurd numbers of a dropped record can't be near."""
    if values is None or len(values) < least or (most is not None and len(values) > most):
        return False
    return all(abs(value) <= LARGEST_COORDINATE for value in values)


def _near_polygons(
    columns: Written, name_of: dict[str, str], wanted: NDArray[np.bool_]
) -> Iterator[int]:
    """Rows of polygons whose mask has IoU >= NEAR_IOU with an earlier one of the same name."""
    records = columns.records
    groups: dict[tuple[int, str], list[int]] = {}
    for row in np.flatnonzero(wanted).tolist():
        if records.kind[row] == "poly" and _comparable(records.values[row], 6):
            groups.setdefault((records.image[row], name_of[records.desc[row] or ""]), []).append(
                row
            )
    for rows in groups.values():
        if len(rows) > 1:
            yield from _near_in_group(columns, rows)


def _whole_points(values: tuple[int, ...]) -> list[int]:
    """The coordinates without a last x that has no y (a dropped record may hold one)."""
    return list(values[: 2 * (len(values) // 2)])


def _near_in_group(columns: Written, rows: list[int]) -> Iterator[int]:
    from pycocotools import mask as mask_api

    points = [_whole_points(columns.records.values[row] or ()) for row in rows]
    canvas = max(MASK_CANVAS, *(int(max(flat)) + 1 for flat in points))
    canvas = min(canvas, 8 * MASK_CANVAS)
    masks = [polygon_rle(flat, canvas, canvas) for flat in points]
    for place in range(1, len(rows)):
        values = mask_api.iou([masks[place]], masks[:place], [0] * place)
        if np.nan_to_num(np.asarray(values)).max() >= NEAR_IOU:
            yield rows[place]


__all__ = ["NEAR_IOU", "Duplicates", "find_duplicates"]
