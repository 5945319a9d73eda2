"""Records in canonical form, all of a text at once, so that reading it can go from run to run.

What a record says depends on its own characters only. So one pattern takes every record of the
canonical form out of the text beforehand, wherever it stands, and whoever walks the text later
takes a whole run of neighbours in one step. Where there is no run, the record is read alone; a
record that no walk arrives at, such as one inside a string, is never used.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.parsers.brackets import INSIDE, coordinate_pattern, written_values
from coordeval.parsers.judging import KINDS_BY_KEY, judge_values
from coordeval.parsers.lexer import STRING_INSIDE, decode
from coordeval.parsers.reasons import DEGENERATE_BOX
from coordeval.parsers.two_fields import KEY, TwoFields, judge_two_fields
from coordeval.records import FoundRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.parsers.dialects import Coordinates, Dialect
    from coordeval.parsers.judging import ReadRecord

_EMPTY_BOX = (DEGENERATE_BOX, "empty_box", None, None)
_AROUND_FIELDS = len('{"desc": "", "": []}')
_AROUND_BOX = _AROUND_FIELDS + len("bbox_2d")
_BEFORE_NUMBER, _AFTER_NUMBER = ', "object_', '": '
_GEOMETRY_FIRST = re.compile(r'\{"(?:bbox_2d|poly|line)": \[')
_MAP_GAP = re.compile(_BEFORE_NUMBER + r"\d{1,9}" + _AFTER_NUMBER, re.ASCII)
_new_record = tuple.__new__


Run = tuple[int, int, tuple[str, ...]]
"""Neighbouring records `records[first:stop]`: first, stop, and the issues that they raise."""


class Runs:
    """The canonical records of a text, in order, and their runs by where they begin."""

    def __init__(self) -> None:
        self.records: list[FoundRecord] = []
        self.by_start: dict[int, Run] = {}
        self._first = 0
        self._issues: list[str] = []

    def add(self, read: ReadRecord) -> None:
        """Append a record to the open run."""
        self.records.append(read.record)
        self._issues += read.issues

    def close(self) -> None:
        """What was appended since the last run is a run, if it is anything."""
        first, stop = self._first, len(self.records)
        if first < stop:
            self.by_start[self.records[first].start] = (first, stop, tuple(self._issues))
            self._first, self._issues = stop, []


class _Descriptions(dict[str, str]):
    """Description as written -> its value; KeyError for those that need a judgement."""

    def __missing__(self, raw: str) -> str:
        desc = decode(raw)
        if not desc.strip() or "<|coord_" in desc:
            raise KeyError(raw)
        self[raw] = desc
        return desc


class _Form(NamedTuple):
    """How canonical records of a dialect are read: one pattern, and what numbers and elements mean.

    The groups of the pattern: the description; the list of a plain box and its four numbers, or
    the key and the list of anything else.
    """

    pattern: re.Pattern[str]
    number_of: dict[str, int]
    value_of: dict[str, int]


@lru_cache(maxsize=16)
def _form(coordinates: Coordinates, desc_first: bool) -> _Form:
    number = "(0|[1-9][0-9]*+)"
    one = coordinate_pattern(coordinates)
    assert number in one
    one = one.replace(number, "([0-9]{1,4}+)")
    desc = f'"desc": "({STRING_INSIDE})"'
    geometry = rf'"(?:bbox_2d": \[({", ".join([one] * 4)})|({KEY})": \[({INSIDE}))\]'
    fields = f"{desc}, {geometry}" if desc_first else f"{geometry}, {desc}"
    value_of = written_values(coordinates)
    number_of = {str(value): value for value in value_of.values()}
    return _Form(re.compile(r"\{" + fields + r"\}"), number_of, value_of)


def find_runs(text: str, dialect: Dialect, *, in_map: bool | None = None) -> Runs:
    """All canonical records of a text that have their fields in the order of the first; linear.

    The records of a run are separated as the dialect's container has it, in a map by their keys;
    `in_map` says so otherwise. There are no runs where another order of fields is enforced.
    """
    desc_at = text.find('{"desc": "')
    desc_first = desc_at >= 0 and _GEOMETRY_FIRST.search(text, 0, desc_at) is None
    if dialect.enforce_field_order and desc_first != (dialect.field_order == "desc_first"):
        return Runs()
    form = _form(dialect.coordinates, desc_first)
    parts = iter(form.pattern.split(text))
    before = len(next(parts))
    rows = zip(*(parts,) * 9)  # noqa: B905 - the keyword costs half a microsecond
    if not desc_first:
        rows = ((row[7], *row[:7], row[8]) for row in rows)  # type: ignore[assignment]
    reader = _RowReader(text, dialect, dialect.container == "map" if in_map is None else in_map)
    reader.read(before, rows, form)
    return reader.runs


class _RowReader:
    """Judges the rows of a split text, and joins neighbours to runs."""

    def __init__(self, text: str, dialect: Dialect, in_map: bool) -> None:
        self.text, self.dialect, self.in_map = text, dialect, in_map
        self.runs = Runs()

    def read(self, place: int, rows: Iterable[tuple[Any, ...]], form: _Form) -> None:
        """Read all rows, the first of which begins at `place`; each ends with what is behind it.

        This loop is what a clean text's time goes to, hence no call that is not needed.
        """
        _, number_of, value_of = form
        descs = _Descriptions()
        append = self.runs.records.append
        separator = None if self.in_map else ", "
        fields: tuple[object, ...]
        values: tuple[int, ...]
        for raw, box, a, b, c, d, key, inside, gap in rows:
            try:
                desc = descs[raw]
                if box is not None:
                    values = x1, y1, x2, y2 = number_of[a], number_of[b], number_of[c], number_of[d]
                    end = place + _AROUND_BOX + len(raw) + len(box)
                    if x1 < x2 and y1 < y2:
                        fields = (place, end, desc, "bbox_2d", values, None, None, None, None)
                    else:
                        fields = (place, end, desc, "bbox_2d", values, *_EMPTY_BOX)
                else:
                    values = tuple(map(value_of.__getitem__, inside.split(", ")))
                    end = place + _AROUND_FIELDS + len(raw) + len(key) + len(inside)
                    drop = judge_values(values, KINDS_BY_KEY[key], in_bins=False)
                    if drop is None:
                        fields = (place, end, desc, key, values, None, None, None, None)
                    else:
                        fields = (place, end, desc, key, values, *drop)
                append(_new_record(FoundRecord, fields))
            except KeyError:  # some other description, key or element than the plain ones
                end = self._odd(place, raw, key or "bbox_2d", box or inside)
            place = end + len(gap)
            if gap != separator and not (self.in_map and _MAP_GAP.fullmatch(gap)):
                self.runs.close()
        self.runs.close()

    def _odd(self, start: int, raw: str, key: str, inside: str) -> int:
        """Judge a record that is not plain, and return its end; what can't be judged ends a run."""
        end = start + _AROUND_FIELDS + len(raw) + len(key) + len(inside)
        desc_first = self.text.startswith('{"desc"', start)
        list_end = end - len("]}") if desc_first else end - len('], "desc": ""}') - len(raw)
        list_start = list_end - len(inside)
        written = TwoFields(start, end, raw, key, list_start, list_end)
        read = judge_two_fields(self.text, written, self.dialect)
        if read is None:
            self.runs.close()
        else:
            self.runs.add(read)
        return end


def run_numbers(text: str, records: Sequence[FoundRecord]) -> list[int]:
    """The numbers of the keys of a map's records, which are one run, but that of the first one."""
    between = [
        text[before.end + len(_BEFORE_NUMBER) : record.start - len(_AFTER_NUMBER)]
        for before, record in pairwise(records)
    ]
    return list(map(int, between))


__all__ = ["Run", "Runs", "find_runs", "run_numbers"]
