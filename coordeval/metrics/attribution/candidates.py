"""Every prediction that any oracle fix can bring about: the valid ones and the repaired drops.

They stand in emission order with all their overlaps computed once; a fix then only says which of
them are present.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from coordeval.coords import frame_named
from coordeval.metrics.attribution.misses import MissBook, miss_book
from coordeval.metrics.attribution.repairs import RepairedRecord, repair
from coordeval.metrics.classes import UNKNOWN_CLASS, NormalisedNames
from coordeval.metrics.columns import PredColumns, RecordColumns, WrittenPart
from coordeval.metrics.compact import Texts, Values
from coordeval.metrics.duplicates import Duplicates, find_duplicates
from coordeval.metrics.geometry import shapes_from_values
from coordeval.metrics.iou import Shapes
from coordeval.parsers.dialects import dialect_from_json, value_frame
from coordeval.parsers.reasons import TRUNCATED_RECORD
from coordeval.records import FoundRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coordeval.metrics.columns import AllRecords, Columns
    from coordeval.metrics.result import ScoreResult


PART_ROWS = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Predictions (N) in emission order, present or not.

    `columns` is the scored run, whose arrays are shared and never written to. `pred` holds the
    candidates as scoring would lay them out; `desc`, `values` what was read; `reason` the drop
    reason of a repaired one, None for a valid one. `score` is the confidence, `emission_scores`
    says that scores are ranks which follow from what is present. `in_loop` marks further copies of
    a loop. `dropped` and `repaired` count records per drop reason. `misses` knows why objects are
    missed, `names` how the run's protocol normalises descriptions. `known_repeats` remembers what
    `repeats` found.
    """

    columns: Columns
    pred: PredColumns
    desc: Texts
    values: Values
    reason: Texts
    score: NDArray[np.float64]
    emission_scores: bool
    in_loop: NDArray[np.bool_]
    dropped: dict[str, int]
    repaired: dict[str, int]
    misses: MissBook
    names: NormalisedNames
    known_repeats: dict[bytes, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = field(
        default_factory=dict, repr=False
    )

    def __len__(self) -> int:
        return len(self.reason)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """The predictions of the run as it is (N)."""
        return self.with_reason(None)

    def with_reason(self, reason: str | None) -> NDArray[np.bool_]:
        """The repaired predictions of one drop reason (N); None: those that need no repair."""
        return np.fromiter((entry == reason for entry in self.reason), dtype=bool, count=len(self))

    def scores(self, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Confidences (N) where only `present` predictions are written."""
        if not self.emission_scores:
            return self.score
        image = self.pred.shapes.image
        written: NDArray[np.int64] = np.cumsum(present) - present
        before_image: NDArray[np.int64] = written[np.searchsorted(image, image, side="left")]
        return np.asarray(1.0 / (1.0 + written - before_image), dtype=np.float64)

    def repeats(self, present: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Exact and near repeats (N) of earlier ones, among the present predictions."""
        key = np.packbits(present).tobytes()
        if key not in self.known_repeats:
            exact, near = np.zeros((2, len(self)), dtype=bool)
            for rows in _in_parts(self.pred.shapes.image, np.flatnonzero(present)):
                found = _repeats_of(self, rows)
                exact[rows], near[rows] = found.exact, found.near
            self.known_repeats[key] = exact, near
        return self.known_repeats[key]


def _in_parts(image: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows, some thousand of whole images at a time."""
    of_rows, first = image[rows], 0
    while first < len(rows):
        last = of_rows[min(first + PART_ROWS, len(rows)) - 1]
        stop = int(np.searchsorted(of_rows, last, side="right"))
        yield rows[first:stop]
        first = stop


def _repeats_of(candidates: Candidates, rows: NDArray[np.int64]) -> Duplicates:
    picked = rows.tolist()
    polygons = candidates.pred.shapes.polygons
    image = candidates.pred.shapes.image[rows]
    records = RecordColumns(
        image=image.tolist(),
        start=[0] * len(picked),
        end=[0] * len(picked),
        desc=[candidates.desc[row] for row in picked],
        kind=["poly" if row in polygons else "bbox_2d" for row in picked],
        values=[candidates.values[row] for row in picked],
    )
    part = WrittenPart(images=candidates.columns.images, records=records, record_image=image)
    return find_duplicates(part, candidates.names)


def build_candidates(result: ScoreResult) -> Candidates:
    """Lay out valid and repaired predictions of a scored run, in emission order.

    A repaired prediction takes its own score where the rollout brings one per found record, else
    the median of the run's scores. A run without predictions gives no candidates.
    """
    columns = result.columns
    repaired = _repair_all(result)
    rows = [row for row, _, record in repaired if record is not None and record.kind != "line"]
    mended = {row: record for row, _, record in repaired if record is not None}
    valid_rows = columns.pred.record
    all_rows = np.sort(np.concatenate([valid_rows, np.asarray(rows, dtype=np.int64)]))
    is_valid = np.isin(all_rows, valid_rows, assume_unique=True)
    names = NormalisedNames(result.protocol["name_rule"])
    descs, values, reasons = _as_read(columns.records, all_rows, mended)
    pred = _predictions(result, all_rows, is_valid, mended, descs, names)
    return Candidates(
        columns=columns,
        pred=pred,
        desc=descs,
        values=values,
        reason=reasons,
        score=_scores(result, all_rows, is_valid),
        emission_scores=result.score_source == "order",
        in_loop=_further_copies(result, all_rows),
        dropped=dict(Counter(reason for _, reason, _ in repaired)),
        repaired=dict(Counter(reason for _, reason, record in repaired if record is not None)),
        names=names,
        misses=miss_book(
            columns, _lost(result, [row for row, _, record in repaired if not record], names)
        ),
    )


def _as_read(
    records: AllRecords, rows: NDArray[np.int64], mended: dict[int, RepairedRecord]
) -> tuple[Texts, Values, Texts]:
    """Description, values and drop reason of each of the rows; what the repair says where it is."""
    descs, values, reasons = Texts(), Values(), Texts()
    for first in range(0, len(rows), PART_ROWS):
        part = rows[first : first + PART_ROWS].tolist()
        descs.extend(mended[r].desc if r in mended else str(records.desc[r]) for r in part)
        values.extend(mended[r].values if r in mended else records.values[r] or () for r in part)
        reasons.extend(records.reason[r] if r in mended else None for r in part)
    return descs, values, reasons


def _repair_all(result: ScoreResult) -> list[tuple[int, str, RepairedRecord | None]]:
    """(record row, drop reason, what the repair makes of it) for every dropped record."""
    columns, records = result.columns, result.columns.records
    dialect = dialect_from_json(result.reading["dialect"])
    out = []
    for row in np.flatnonzero(~columns.record_valid).tolist():
        found = FoundRecord(
            records.start[row],
            records.end[row],
            records.desc[row],
            records.kind[row],  # type: ignore[arg-type]  # columns store kinds as text
            records.values[row],
            records.reason[row],
            records.detail[row],
            records.evidence[row],
            records.slot[row],
        )
        text = columns.images[records.image[row]].text[found.start : found.end]
        out.append((row, found.reason or "", repair(found, text, dialect)))
    return out


def _predictions(
    result: ScoreResult,
    all_rows: NDArray[np.int64],
    is_valid: NDArray[np.bool_],
    mended: dict[int, RepairedRecord],
    descs: Texts,
    names: NormalisedNames,
) -> PredColumns:
    """The candidates' shapes and classes; those of valid predictions are the scored ones."""
    columns = result.columns
    image = columns.record_image[all_rows].astype(np.int64)
    places = np.flatnonzero(~is_valid)
    added = [mended[row] for row in all_rows[places].tolist()]
    new = shapes_from_values(
        image[places],
        np.array([record.kind == "poly" for record in added], dtype=bool),
        [record.values for record in added],
        columns.sizes_wh,
        value_frame(
            dialect_from_json(result.reading["dialect"]), frame_named(result.reading["frame"])
        ),
    )
    old = columns.pred.shapes
    old_places = np.flatnonzero(is_valid)
    boxes = np.zeros((len(all_rows), 4))
    boxes[old_places], boxes[places] = old.boxes, new.boxes
    polygons = {int(old_places[row]): points for row, points in old.polygons.items()}
    polygons |= {int(places[row]): points for row, points in new.polygons.items()}
    class_code = np.zeros(len(all_rows), dtype=np.int64)
    class_code[old_places] = columns.pred.class_code
    codes = columns.names.codes
    for place in places.tolist():
        class_code[place] = codes.get(names[descs[place] or ""], UNKNOWN_CLASS)
    return PredColumns(
        shapes=Shapes(image=image, boxes=boxes, polygons=polygons),
        record=all_rows,
        class_code=class_code,
        copy_group=np.arange(len(all_rows)),
        is_copy=np.zeros(len(all_rows), dtype=bool),
        lines=columns.pred.lines,
        outside=columns.pred.outside,
    )


def _lost(
    result: ScoreResult, rows: list[int], names: NormalisedNames
) -> Iterator[tuple[int, int]]:
    """(image, class) of unrepairable records whose name is known, loops and the cut one aside."""
    columns, records = result.columns, result.columns.records
    codes = columns.names.codes
    looped = _further_copies(result, np.asarray(rows, dtype=np.int64))
    for row, in_loop in zip(rows, looped.tolist(), strict=True):
        desc = records.desc[row]
        if desc is None or in_loop or records.reason[row] == TRUNCATED_RECORD:
            continue
        code = codes.get(names[desc])
        if code is not None:
            yield records.image[row], code


def _scores(
    result: ScoreResult, all_rows: NDArray[np.int64], is_valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if result.score_source == "scores":
        return result.columns.record_scores[all_rows]
    middle = float(np.median(result.scores)) if len(result.scores) else 1.0
    out = np.full(len(all_rows), middle)
    out[is_valid] = result.scores
    return out


def _further_copies(result: ScoreResult, all_rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Candidates that start inside a loop, after its first copy."""
    start = result.columns.records.start.array()[all_rows]
    image = result.columns.record_image[all_rows]
    out = np.zeros(len(all_rows), dtype=bool)
    for loop in result.loops:
        low, high = np.searchsorted(image, [loop.image, loop.image + 1])
        inside = (start[low:high] >= loop.onset_char) & (start[low:high] < loop.end_char)
        out[low:high] |= inside
    return out


__all__ = ["Candidates", "build_candidates"]
