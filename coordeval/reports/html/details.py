"""What the gallery shows of one image of one run: its text, records, ground truth and loops.

Keys are short because there are a hundred thousand of them; `assets/store.js` gives them names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.coords import frame_named
from coordeval.metrics.objects_table import ObjectRows
from coordeval.parsers.dialects import dialect_from_json, value_frame
from coordeval.reports.control_notes import guard_text, weak_slots
from coordeval.reports.html.offsets import utf16_offsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.metrics.columns import ImageEntry
    from coordeval.metrics.result import ScoreResult
    from coordeval.records import GroundTruthObject
    from coordeval.runs import Run

TEXT_LIMIT = 60_000
LARGEST_PX = 1e7
VERDICTS = {
    "right": "r",
    "wrong": "w",
    "ignored": "i",
    "unscored": "u",
    "removed": "x",
    "dropped": "d",
    "matched": "m",
    "missed": "f",
    "crowd": "c",
}
KINDS = {None: "-", "bbox_2d": "b", "poly": "p", "line": "l"}
DECIMALS = 1


@dataclass(frozen=True, slots=True)
class _Unread:
    """What scoring leaves aside: the text and error of a failed sample, unscored ground truth."""

    text: str
    error: str | None
    gt: tuple[GroundTruthObject, ...]


class Details:
    """Builds the details of any images of one scored run."""

    def __init__(self, run: Run, result: ScoreResult) -> None:
        self._result = result
        self._columns = result.columns
        self._objects = ObjectRows(result)
        images = np.arange(len(result.columns.images) + 1)
        self._gt_from = np.searchsorted(result.columns.gt.shapes.image, images)
        self._loops: dict[int, list[Any]] = {}
        for loop in result.loops:
            self._loops.setdefault(loop.image, []).append(loop)
        self._unread = _read_again(run, result)
        dialect = dialect_from_json(result.reading["dialect"])
        self._frame = value_frame(dialect, frame_named(result.reading["frame"]))

    def of_images(self, first: int, last: int) -> list[dict[str, Any]]:
        """Everything about the images `first` to `last` (excluded), as plain data."""
        entries = self._columns.images[first:last]
        if not entries:
            return []
        start, end = entries[0].first_record, entries[-1].first_record + entries[-1].num_found
        low, high = self._gt_from[[first, last]].tolist()
        records = _Side(self._objects.records(start, end), start)
        truth = _Side(self._objects.truth(low, high), low)
        pred_rows = self._columns.pred.record
        before = int(np.searchsorted(pred_rows, start))
        scored = pred_rows[before : int(np.searchsorted(pred_rows, end))].tolist()
        pred_of = {row: place for place, row in enumerate(scored, start=before)}
        return [self._of(entry, records, truth, pred_of) for entry in entries]

    def _of(
        self, entry: ImageEntry, records: _Side, truth: _Side, pred_of: Mapping[int, int]
    ) -> dict[str, Any]:
        unread = self._unread.get(entry.id)
        text = unread.text if unread and entry.failed else entry.text
        names: dict[str, int] = {}
        out: dict[str, Any] = {
            "t": text[:TEXT_LIMIT],
            "r": self._record_part(entry, text, records, names, pred_of),
            "g": self._truth_part(entry, unread, truth, names),
            "i": entry.issues,
            "y": entry.conforming,
        }
        if len(text) > TEXT_LIMIT:
            out["cut"] = len(text) - TEXT_LIMIT
        if entry.finish_reason is not None:
            out["f"] = entry.finish_reason
        if entry.num_tokens is not None:
            out["k"] = entry.num_tokens
        if unread is not None and unread.error is not None:
            out["err"] = unread.error
        guard = guard_text(entry)
        if guard is not None:
            out["gd"] = guard
        if entry.index in self._loops:
            out["l"] = [_loop(loop, text) for loop in self._loops[entry.index]]
        out["n"] = list(names)
        return out

    def _record_part(
        self,
        entry: ImageEntry,
        text: str,
        side: _Side,
        names: dict[str, int],
        pred_of: Mapping[int, int],
    ) -> dict[str, Any]:
        count = entry.num_found
        first = entry.first_record - side.first_row
        last = first + count
        part = slice(first, last)
        spans = utf16_offsets(text, [*side.start[part], *side.end[part]])
        out: dict[str, Any] = {
            "s": spans[:count],
            "e": spans[count:],
            "v": "".join(side.verdict[part]),
            "k": "".join(side.kind[part]),
            "n": [_index(names, desc) for desc in side.desc[part]],
            "g": [self._geometry(row, entry, side, pred_of) for row in range(first, last)],
            "p": side.partner[part],
        }
        copies = {
            row - first: "e" if side.exact[row] else "n"
            for row in range(first, last)
            if side.exact[row] or side.near[row]
        }
        drops = {
            row - first: [side.reason[row], side.detail[row], side.evidence[row], side.slot[row]]
            for row in range(first, last)
            if side.reason[row] is not None
        }
        notes = {
            place: [[note.slot, note.foreign, note.text] for note in weak if note.text]
            for place, weak in weak_slots(self._result.slots, entry.index).items()
            if place < count
        }
        if notes:
            out["m"] = {str(place): rows for place, rows in notes.items()}
        if copies:
            out["c"] = {str(place): how for place, how in copies.items()}
        if drops:
            out["d"] = {str(place): why for place, why in drops.items()}
        if self._result.score_source != "constant":
            out["q"] = side.score[part]
        return out

    def _geometry(
        self, place: int, entry: ImageEntry, side: _Side, pred_of: Mapping[int, int]
    ) -> list[float] | None:
        row = side.first_row + place
        if row in pred_of:
            polygon = self._columns.pred.shapes.polygons.get(pred_of[row])
            return side.box[place] if polygon is None else _rounded(polygon)
        values, kind = self._columns.records.values[row], self._columns.records.kind[row]
        if values is None or not _drawable(values, kind):
            return None
        if self._frame is None:
            return _rounded(values)
        return _rounded(self._frame.to_pixels(values, entry.width, entry.height).tolist())

    def _truth_part(
        self, entry: ImageEntry, unread: _Unread | None, side: _Side, names: dict[str, int]
    ) -> dict[str, Any]:
        low, high = (self._gt_from[entry.index : entry.index + 2] - side.first_row).tolist()
        part = slice(low, high)
        polygons = self._columns.gt.shapes.polygons
        geometry = [
            _rounded(polygons[row]) if row in polygons else side.box[place]
            for place, row in enumerate(range(side.first_row + low, side.first_row + high), low)
        ]
        left_out = unread.gt if unread is not None else ()
        return {
            "n": [_index(names, desc) for desc in side.desc[part]]
            + [_index(names, item.desc) for item in left_out],
            "g": geometry + [_rounded(item.values_px) for item in left_out],
            "k": "".join(side.kind[part]) + "".join(KINDS[item.kind] for item in left_out),
            "v": "".join(side.verdict[part]) + "u" * len(left_out),
            "p": side.partner[part] + [None] * len(left_out),
        }


class _Side:
    """Columns of the objects table for some rows of one side, as plain lists."""

    def __init__(self, table: Any, first_row: int) -> None:
        self.first_row = first_row
        plain = {name: table[name].astype(object).tolist() for name in ("start", "end", "slot")}
        self.start, self.end = plain["start"], plain["end"]
        self.slot = _none_for_missing(plain["slot"])
        self.desc: list[str | None] = _none_for_missing(table["desc"].tolist())
        self.reason = _none_for_missing(table["reason"].tolist())
        self.detail = _none_for_missing(table["detail"].tolist())
        self.evidence = _none_for_missing(table["evidence"].tolist())
        self.exact = table["exact_repeat"].fillna(value=False).tolist()
        self.near = table["near_repeat"].fillna(value=False).tolist()
        self.verdict = [VERDICTS[name] for name in table["verdict"].tolist()]
        self.kind = [KINDS[kind] for kind in _none_for_missing(table["kind"].tolist())]
        self.partner = _none_for_missing(table["partner"].astype(object).tolist())
        self.score = [
            None if value is None else round(value, 4)
            for value in _none_for_missing(table["score"].astype(object).tolist())
        ]
        sides = ["x1_px", "y1_px", "x2_px", "y2_px"]
        boxes = table[sides].to_numpy(dtype=np.float64, na_value=np.nan)
        self.box = np.round(np.nan_to_num(boxes), DECIMALS).tolist()


def _none_for_missing(values: list[Any]) -> list[Any]:
    import pandas as pd

    return [None if pd.isna(value) else value for value in values]


def _index(names: dict[str, int], desc: str | None) -> int | None:
    return None if desc is None else names.setdefault(desc, len(names))


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DECIMALS) for value in values]


def _drawable(values: Sequence[int], kind: str | None) -> bool:
    """Whether values of a record that is not scored can be drawn as the kind that it names."""
    if any(abs(value) > LARGEST_PX for value in values):
        return False
    if kind == "bbox_2d":
        return len(values) == 4
    return kind in ("poly", "line") and len(values) >= 4 and len(values) % 2 == 0


def _loop(loop: Any, text: str) -> list[Any]:
    start, onset, end = utf16_offsets(text, [loop.start_char, loop.onset_char, loop.end_char])
    return [
        start,
        onset,
        end,
        loop.period_records,
        loop.repeats,
        loop.onset_token,
        loop.wasted_tokens,
        loop.reaches_end,
    ]


def _read_again(run: Run, result: ScoreResult) -> dict[str, _Unread]:
    """Read the run a second time where scoring has set something aside; else nothing."""
    columns = result.columns
    wanted = {
        entry.id
        for entry in columns.images
        if entry.failed or columns.gt.zero_area[entry.index] or columns.gt.lines[entry.index]
    }
    if not wanted:
        return {}
    out = {}
    for rollout in run.rollouts():
        if rollout.id in wanted and rollout.sample_index == 0:
            out[rollout.id] = _Unread(
                rollout.text if rollout.failed else "",
                rollout.error,
                tuple(item for item in rollout.gt if _left_out(item)),
            )
    return out


def _left_out(item: GroundTruthObject) -> bool:
    from coordeval.metrics.geometry import polygon_area

    if item.kind == "line":
        return True
    if item.kind == "poly":
        return polygon_area(item.values_px) <= 0
    x1, y1, x2, y2 = item.values_px
    return x2 <= x1 or y2 <= y1


__all__ = ["TEXT_LIMIT", "VERDICTS", "Details"]
