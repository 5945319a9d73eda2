"""The table of all objects: found records, then ground truth, whole or in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.metrics.classes import UNKNOWN_CLASS
from coordeval.metrics.parquet import PART_ROWS, schema_of
from coordeval.metrics.tables import headline_row, text_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from coordeval.metrics.result import ScoreResult


def objects_table(result: ScoreResult) -> pd.DataFrame:
    """Found records (`role` pred), then scored ground truth (`role` gt), each in run order.

    `verdict` at the first threshold that is .50 (else the first): right, wrong, ignored (crowd or
    scope), removed (by the protocol), unscored, dropped for records; matched, missed, crowd for
    ground truth. `partner` is the row of the other side's object inside its image. `samples` and
    `samples_found` of a ground truth: how many other samples there are, and how many find it.
    """
    import pandas as pd

    both = ObjectRows(result)
    parts = [
        both.records(0, len(result.columns.records)),
        both.truth(0, len(result.columns.gt)),
    ]
    return pd.concat(parts, ignore_index=True)


def objects_in_parts(result: ScoreResult) -> Iterator[pd.DataFrame]:
    """The same rows, some thousand at a time; at least one table, empty for an empty run."""
    both, rows = ObjectRows(result), PART_ROWS
    num_records, num_gt = len(result.columns.records), len(result.columns.gt)
    for first in range(0, num_records, rows):
        yield both.records(first, min(first + rows, num_records))
    for first in range(0, num_gt, rows):
        yield both.truth(first, min(first + rows, num_gt))
    if not num_records + num_gt:
        yield objects_table(result)


def objects_schema(result: ScoreResult) -> pa.Schema:
    """The types of the whole table in parquet, without making it."""
    import pandas as pd

    records, gt, pred = result.columns.records, result.columns.gt, result.columns.pred
    num, num_gt = len(records), len(gt)
    known = {
        name: bool(num_gt) or column.count(None) < num
        for name, column in (("desc", records.desc), ("kind", records.kind))
    }
    known |= {
        name: column.count(None) < num
        for name, column in (
            ("reason", records.reason),
            ("detail", records.detail),
            ("evidence", records.evidence),
        )
    }
    known["class"] = bool(num_gt) or bool((pred.class_code != UNKNOWN_CLASS).any())
    empty = ObjectRows(result).records(0, 0)
    example: dict[str, Any] = {
        str(name): pd.Series([None], dtype=kind) if kind != "int64" else [0]
        for name, kind in empty.dtypes.items()
    }
    if not num + num_gt:
        return schema_of(empty)
    for name in ("id", "role", "verdict", *(name for name, is_known in known.items() if is_known)):
        example[name] = pd.Series(["text"], dtype=object)
    if num_gt:
        example["values"] = pd.Series([[0.5]], dtype=object)
    elif records.values.any_known():
        example["values"] = pd.Series([[1]], dtype=object)
    return schema_of(pd.DataFrame(example))


def objects_of_image(result: ScoreResult, image: int) -> pd.DataFrame:
    """The rows of one image, given as its row in the run, as they stand in the whole table."""
    import pandas as pd

    both, entry = ObjectRows(result), result.columns.images[image]
    first, last = np.searchsorted(result.columns.gt.shapes.image, [image, image + 1]).tolist()
    parts = [
        both.records(entry.first_record, entry.first_record + entry.num_found),
        both.truth(first, last),
    ]
    return pd.concat(parts, ignore_index=True)


class ObjectRows:
    """Any rows of either side; made once, it knows the run's pairs at the headline threshold."""

    def __init__(self, result: ScoreResult) -> None:
        self._result = result
        self._row = headline_row(result.scored.aware)
        self._partner = result.scored.aware.partner[self._row]
        self._ignored = result.scored.aware.ignored[self._row]
        columns = result.columns
        paired = np.flatnonzero(self._partner >= 0)
        self._found_by = np.full(len(columns.gt), -1, dtype=np.int64)
        record = columns.pred.record[paired]
        image = columns.record_image[record]
        self._found_by[self._partner[paired]] = record - _first_of(columns.record_image, image)

    def records(self, first: int, last: int) -> pd.DataFrame:
        """Rows of the records `first` to `last` (excluded)."""
        import pandas as pd

        columns, records = self._result.columns, self._result.columns.records
        pred, num = columns.pred, last - first
        low, high = np.searchsorted(pred.record, [first, last]).tolist()
        place = pred.record[low:high] - first
        partner = self._partner[low:high]
        kind, reason = records.kind.part(first, last), records.reason.part(first, last)
        verdict = np.full(num, "removed", dtype=object)
        verdict[~columns.record_valid[first:last]] = "dropped"
        is_line = [k == "line" and why is None for k, why in zip(kind, reason, strict=True)]
        verdict[np.array(is_line, dtype=bool)] = "unscored"
        verdict[place] = np.where(
            partner >= 0, "right", np.where(self._ignored[low:high], "ignored", "wrong")
        )
        boxes = np.full((num, 4), np.nan)
        boxes[place] = pred.shapes.boxes[low:high]
        score = np.full(num, np.nan)
        score[place] = self._result.scores[low:high]
        class_of: list[str | None] = [None] * num
        labels = columns.universe.labels
        for row, code in zip(place.tolist(), pred.class_code[low:high].tolist(), strict=True):
            class_of[row] = None if code == UNKNOWN_CLASS else labels[code]
        partner_of = np.full(num, -1, dtype=np.int64)
        paired = partner >= 0
        gt_image = columns.gt.shapes.image
        partner_of[place[paired]] = partner[paired] - _first_of(gt_image, gt_image[partner[paired]])
        image = columns.record_image[first:last]
        nothing = pd.array([None] * num, dtype="Int64")
        return pd.DataFrame(
            {
                "id": text_column(columns.images[row].id for row in image.tolist()),
                "role": text_column(["pred"] * num),
                "index": np.arange(first, last) - _first_of(columns.record_image, image),
                "desc": text_column(records.desc.part(first, last)),
                "class": text_column(class_of),
                "kind": text_column(kind),
                "values": [
                    None if values is None else list(values)
                    for values in records.values.part(first, last)
                ],
                **_box_columns(boxes),
                "start": pd.array(records.start.part(first, last), dtype="Int64"),
                "end": pd.array(records.end.part(first, last), dtype="Int64"),
                "reason": text_column(reason),
                "detail": text_column(records.detail.part(first, last)),
                "evidence": text_column(records.evidence.part(first, last)),
                "slot": pd.array(records.slot.part(first, last), dtype="Int64"),
                "score": _known(score, np.isnan(score), "Float64"),
                "exact_repeat": pd.array(self._result.duplicates.exact[first:last], "boolean"),
                "near_repeat": pd.array(self._result.duplicates.near[first:last], "boolean"),
                "verdict": text_column(verdict),
                "partner": _known(partner_of, partner_of < 0, "Int64"),
                "samples": nothing,
                "samples_found": nothing,
            }
        )

    def truth(self, first: int, last: int) -> pd.DataFrame:
        """Rows of the ground truth `first` to `last` (excluded)."""
        import pandas as pd

        columns, gt = self._result.columns, self._result.columns.gt
        num = last - first
        image = gt.shapes.image[first:last]
        boxes = gt.shapes.boxes[first:last]
        crowd = gt.crowd[first:last] & (self._result.protocol["crowd"] == "ignore")
        found_by = self._found_by[first:last]
        polygons = gt.shapes.polygons
        nothing = pd.array([None] * num, dtype="Int64")
        flags = pd.array([None] * num, dtype="boolean")
        return pd.DataFrame(
            {
                "id": text_column(columns.images[row].id for row in image.tolist()),
                "role": text_column(["gt"] * num),
                "index": np.arange(first, last) - _first_of(gt.shapes.image, image),
                "desc": text_column(gt.desc.part(first, last)),
                "class": text_column(
                    columns.universe.labels[code] for code in gt.class_code[first:last].tolist()
                ),
                "kind": text_column(
                    "poly" if place in polygons else "bbox_2d" for place in range(first, last)
                ),
                "values": [
                    list(polygons.get(place) or box)
                    for place, box in enumerate(boxes.tolist(), start=first)
                ],
                **_box_columns(boxes),
                "start": nothing,
                "end": nothing,
                "reason": text_column([None] * num),
                "detail": text_column([None] * num),
                "evidence": text_column([None] * num),
                "slot": nothing,
                "score": pd.array([None] * num, dtype="Float64"),
                "exact_repeat": flags,
                "near_repeat": flags,
                "verdict": text_column(
                    "crowd" if is_crowd else "missed" if other < 0 else "matched"
                    for is_crowd, other in zip(crowd.tolist(), found_by.tolist(), strict=True)
                ),
                "partner": _known(found_by, found_by < 0, "Int64"),
                **self._sample_columns(first, last, crowd),
            }
        )

    def _sample_columns(self, first: int, last: int, crowd: NDArray[np.bool_]) -> dict[str, Any]:
        """Per ground truth: how many other samples there are and find it; null where none is."""
        oracle = self._result.oracle
        trials, found = np.zeros((2, last - first), dtype=np.int64)
        if oracle is not None:
            trials = oracle.trials[self._result.columns.gt.shapes.image[first:last]]
            found = oracle.aware.found_in[self._row][first:last]
        unknown = (trials == 0) | crowd
        return {
            "samples": _known(trials, unknown, "Int64"),
            "samples_found": _known(found, unknown, "Int64"),
        }


def _first_of(sorted_image: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each image in a column that is sorted by image."""
    return np.searchsorted(sorted_image, image, side="left")


def _known(values: NDArray[Any], unknown: NDArray[np.bool_], dtype: str) -> Any:
    """A nullable column of these values, null where they are not known."""
    import pandas as pd

    kind = pd.arrays.FloatingArray if dtype == "Float64" else pd.arrays.IntegerArray
    return kind(np.where(unknown, 1, values), unknown.copy())


def _box_columns(boxes: NDArray[np.float64]) -> dict[str, Any]:
    return {
        name: _known(boxes[:, place], np.isnan(boxes[:, place]), "Float64")
        for place, name in enumerate(("x1_px", "y1_px", "x2_px", "y2_px"))
    }


__all__ = ["ObjectRows", "objects_in_parts", "objects_of_image", "objects_schema", "objects_table"]
