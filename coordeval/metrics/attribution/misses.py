"""Why objects are missed where no prediction is to blame.

`engine`: the engine failed on the image. `lost`: a record of that name was dropped and cannot be
repaired (each such record explains one object; those cut by the end of the text belong to `cut`).
`cut`: the answer ended before its own end. `other`: the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, ImageEntry

MissCause = Literal["lost", "cut", "engine", "other"]
_CODES: dict[MissCause, int] = {"other": 0, "cut": 1, "engine": 2, "lost": 3}
_CUT_SHORT = ("length", "loop_guard", "grammar_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissBook:
    """What is known about causes before anything is matched.

    `image_cause` (I) holds the cause of an image; `gt_key` (G) numbers image and class of every
    object; `lost_key` (sorted, distinct) and `lost_count` say how many unrepairable records
    explain objects of that image and class.
    """

    image_cause: NDArray[np.int64]
    gt_image: NDArray[np.int64]
    gt_key: NDArray[np.int64]
    lost_key: NDArray[np.int64]
    lost_count: NDArray[np.int64]

    def of_cause(self, missed: NDArray[np.bool_], causes: Iterable[MissCause]) -> NDArray[np.bool_]:
        """Which of the missed objects (G) are missed for one of these causes."""
        wanted = [_CODES[cause] for cause in causes]
        cause = self.image_cause[self.gt_image]
        cause[self._explained(missed)] = _CODES["lost"]
        return missed & np.isin(cause, wanted)

    def _explained(self, missed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first missed objects of each image and class, as many as records were lost."""
        rows = np.flatnonzero(missed)
        if not len(rows) or not len(self.lost_key):
            return rows[:0]
        rows = rows[np.argsort(self.gt_key[rows], kind="stable")]
        key = self.gt_key[rows]
        rank = np.arange(len(rows)) - np.searchsorted(key, key, side="left")
        place = np.minimum(np.searchsorted(self.lost_key, key), len(self.lost_key) - 1)
        lost = np.where(self.lost_key[place] == key, self.lost_count[place], 0)
        return rows[rank < lost]


def miss_book(columns: Columns, lost: Iterable[tuple[int, int]]) -> MissBook:
    """Collect the causes; `lost` are (image, class code) of records that cannot be repaired."""
    step = len(columns.universe.names) + 1
    keys = np.array([image * step + code for image, code in lost], dtype=np.int64)
    lost_key, lost_count = np.unique(keys, return_counts=True)
    gt = columns.gt
    return MissBook(
        image_cause=np.array([_image_cause(entry) for entry in columns.images], dtype=np.int64),
        gt_image=gt.shapes.image,
        gt_key=gt.shapes.image * step + gt.class_code,
        lost_key=lost_key,
        lost_count=lost_count,
    )


def _image_cause(entry: ImageEntry) -> int:
    if entry.failed:
        return _CODES["engine"]
    cut = entry.finish_reason in _CUT_SHORT
    if entry.finish_reason is None:
        cut = "truncated" in entry.issues
    return _CODES["cut" if cut else "other"]


__all__ = ["MissBook", "MissCause", "miss_book"]
