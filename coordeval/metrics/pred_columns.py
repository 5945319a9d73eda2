"""Valid records to predictions: pixels, class codes, and which ones repeat an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.columns import PredColumns
from coordeval.metrics.geometry import outside_canvas, shapes_from_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.metrics.columns import RecordColumns


def pred_columns(
    records: RecordColumns,
    record_image: NDArray[np.int64],
    record_valid: NDArray[np.bool_],
    sizes_wh: NDArray[np.int64],
    frame: CoordFrame | None,
    normalise: Mapping[str, str],
    code_of: Callable[[str], int],
) -> PredColumns:
    """Columns of the valid boxes and polygons among `records`, which stand sorted by image.

    `record_image`, `record_valid` (records) are image row and validity; `frame` None reads values
    as pixels, `code_of` gives normalised names their class code. Lines are counted per image and
    left out. No records give empty columns.
    """
    is_line = np.array([kind == "line" for kind in records.kind], dtype=bool)
    num_images = len(sizes_wh)
    lines = np.bincount(record_image[record_valid & is_line], minlength=num_images)
    rows = np.flatnonzero(record_valid & ~is_line)
    everything = len(rows) == len(records)
    picked = rows.tolist()
    values = list(records.values) if everything else [records.values[row] for row in picked]
    kinds = list(records.kind) if everything else [records.kind[row] for row in picked]
    desc = list(records.desc) if everything else [records.desc[row] for row in picked]
    image = record_image[rows]
    shapes = shapes_from_values(
        image,
        np.array([kind == "poly" for kind in kinds], dtype=bool),
        values,  # type: ignore[arg-type]  # valid records have values
        sizes_wh,
        frame,
    )
    names = [normalise[name] for name in desc]  # type: ignore[index]  # and a description
    copy_group = _first_rows(zip(image.tolist(), names, kinds, values, strict=True))
    extents = sizes_wh.astype(np.float64)
    return PredColumns(
        shapes=shapes,
        record=rows,
        class_code=np.array([code_of(name) for name in names], dtype=np.int64),
        copy_group=copy_group,
        is_copy=copy_group != np.arange(len(rows)),
        lines=lines,
        outside=np.bincount(image[outside_canvas(shapes, extents)], minlength=num_images),
    )


def _first_rows(keys: Iterable[object]) -> NDArray[np.int64]:
    """Per key, the row at which an equal key stands first."""
    first: dict[object, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)


__all__ = ["pred_columns"]
