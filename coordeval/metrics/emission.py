"""The order in which records were written, which that of a map's records need not be.

A map's records are kept in the order of their numbers; what repeats is asked of the text's order.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.columns import RecordColumns, WrittenPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Written


def emission_order(written: Written) -> NDArray[np.int64] | None:
    """Rows of the records by image and place in its text; None where they stand so already."""
    start = np.asarray(list(written.records.start), dtype=np.int64)
    image = written.record_image
    if not ((start[1:] < start[:-1]) & (image[1:] == image[:-1])).any():
        return None
    return np.lexsort((start, image))


def in_order(written: Written, order: NDArray[np.int64]) -> WrittenPart:
    """The same images with their records in another order, given as rows."""
    rows = order.tolist()
    columns = {
        column.name: [getattr(written.records, column.name)[row] for row in rows]
        for column in fields(RecordColumns)
    }
    return WrittenPart(
        images=written.images,
        records=RecordColumns(**columns),
        record_image=written.record_image[order],
    )


__all__ = ["emission_order", "in_order"]
