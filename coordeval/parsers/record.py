"""One record: read its fields, then judge it by the first drop reason that holds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from coordeval.coords import MAX_BIN
from coordeval.parsers import reasons
from coordeval.parsers.brackets import Contents, coordinate_pattern, read_list, read_numbers
from coordeval.parsers.lexer import (
    SCALAR,
    BrokenRecord,
    NestedBudget,
    TruncatedText,
    before_separator,
    closes_container,
    read_string,
    resync,
    skip_nested,
    skip_spaces,
)
from coordeval.records import GEOMETRY_KINDS, FoundRecord, GeometryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Coordinates, Dialect

_DRIFTED_KINDS: tuple[tuple[str, GeometryKind], ...] = (
    ("bbox", "bbox_2d"),
    ("box", "bbox_2d"),
    ("poly", "poly"),
    ("line", "line"),
    ("point", "line"),
    ("quad", "poly"),
)
_COORD_TOKEN = re.compile(r"<\|coord_(?:\d+|\*)\|>")
MAP_KEY = re.compile(r"object_(\d{1,9})")
_LEAST_VALUES: dict[GeometryKind, int] = {"bbox_2d": 4, "poly": 6, "line": 4}
_KINDS_BY_KEY: dict[str, GeometryKind] = {kind: kind for kind in GEOMETRY_KINDS}


class GeometryField(NamedTuple):
    """One geometry field as written: its key, the kind it stands for, its list if it has one."""

    key: str
    kind: GeometryKind
    contents: Contents | None
    inside_end: int


@dataclass(slots=True)
class Fields:
    """What was read of a record before it closed or broke."""

    keys: list[str] = field(default_factory=list)
    desc: str | None = None
    geometries: list[GeometryField] = field(default_factory=list)
    canonical_spacing: bool = True
    trailing_comma: bool = False


class ReadRecord(NamedTuple):
    """A judged record, where reading goes on, and the issues that its inside raises."""

    record: FoundRecord
    after: int
    issues: tuple[str, ...]


def read_record(text: str, opening: int, dialect: Dialect, budget: NestedBudget) -> ReadRecord:
    """Read the record whose `{` stands at `opening`.

    `after` is the length of the text where the record is truncated. A broken record ends where
    its closing brace or the next record is found, so that its neighbours are read as they stand.
    """
    plain = _read_plain(text, opening, dialect)
    if plain is not None:
        return plain
    fields = Fields()
    try:
        end = _read_fields(text, opening, dialect, budget, fields)
    except TruncatedText:
        return _truncated(text, opening, fields)
    except BrokenRecord as broken:
        if broken.detail == "missing_brace":
            end, found = before_separator(text, opening, broken.resync_from), True
        else:
            end, found = resync(text, opening, broken.resync_from)
        unclosed = broken.detail == "unclosed_string"
        issues: tuple[str, ...] = ("unclosed_string",) if unclosed else ()
        if not found:
            return _truncated(text, opening, fields, issues)
        drop = (reasons.MALFORMED_RECORD, broken.detail, broken.evidence, None)
        return ReadRecord(_found(opening, end, fields, drop), end, issues)
    judged = _found(opening, end, fields, _judge(fields, dialect))
    return ReadRecord(judged, end, _issues(fields))


@lru_cache(maxsize=16)
def _plain_record(coordinates: Coordinates, *, geometry_first: bool) -> re.Pattern[str]:
    one = coordinate_pattern(coordinates).replace("(0|", "(?:0|")
    desc = r'"desc": "(?P<desc>[^"\\\x00-\x1f<\ud800-\udfff]*+)"'
    geometry = rf'"(?P<kind>bbox_2d|poly|line)": \[(?P<list>{one}(?:, {one})*+)\]'
    body = rf"{geometry}, {desc}" if geometry_first else rf"{desc}, {geometry}"
    return re.compile(r"\{" + body + r"\}")


def _read_plain(text: str, opening: int, dialect: Dialect) -> ReadRecord | None:
    """A canonical record in one match; None where the fields have to be read one by one."""
    geometry_first = not text.startswith('{"desc"', opening)
    if dialect.enforce_field_order and geometry_first != (dialect.field_order == "geometry_first"):
        return None
    pattern = _plain_record(dialect.coordinates, geometry_first=geometry_first)
    match = pattern.match(text, opening)
    if match is None or not match["desc"].strip():
        return None
    kind: GeometryKind = match["kind"]  # type: ignore[assignment]
    values = read_numbers(match["list"])
    drop = judge_values(values, kind, in_bins=dialect.coordinates != "pixel_int")
    reason, detail, evidence, slot = drop or (None, None, None, None)
    record = FoundRecord(
        opening, match.end(), match["desc"], kind, values, reason, detail, evidence, slot
    )
    return ReadRecord(record, match.end(), ())


def _issues(fields: Fields) -> tuple[str, ...]:
    names = []
    if fields.trailing_comma:
        names.append("trailing_comma")
    if not fields.canonical_spacing:
        names.append("nonstandard_spacing")
    if fields.desc is not None and _COORD_TOKEN.search(fields.desc):
        names.append("coord_token_in_desc")
    return tuple(names)


def _truncated(text: str, opening: int, fields: Fields, issues: tuple[str, ...] = ()) -> ReadRecord:
    drop = (reasons.TRUNCATED_RECORD, None, None, None)
    return ReadRecord(_found(opening, len(text), fields, drop), len(text), issues)


_Drop = tuple[str, str | None, str | None, int | None]


def _found(start: int, end: int, fields: Fields, drop: _Drop | None) -> FoundRecord:
    kind: GeometryKind | None = None
    values: tuple[int, ...] | None = None
    if len(fields.geometries) == 1:
        only = fields.geometries[0]
        kind = only.kind
        values = only.contents.values if only.contents is not None else None
    reason, detail, evidence, slot = drop or (None, None, None, None)
    return FoundRecord(start, end, fields.desc, kind, values, reason, detail, evidence, slot)


def _read_fields(
    text: str, opening: int, dialect: Dialect, budget: NestedBudget, fields: Fields
) -> int:
    """Read fields until the closing brace; returns the position after it."""
    size = len(text)
    place = skip_spaces(text, opening + 1)
    gap_ok = place == opening + 1
    while True:
        if place >= size:
            raise TruncatedText
        character = text[place]
        if character == "}":
            fields.canonical_spacing &= gap_ok or not fields.keys
            return place + 1
        if character != '"':
            raise BrokenRecord("missing_key", place, text[place : place + 20])
        fields.canonical_spacing &= gap_ok
        key, after_key = read_string(text, place, ":")
        fields.keys.append(key)
        colon = skip_spaces(text, after_key)
        value_at = skip_spaces(text, colon + 1)
        if value_at >= size:
            raise TruncatedText
        if dialect.container == "map" and text[value_at] == "{" and MAP_KEY.fullmatch(key):
            raise BrokenRecord("missing_brace", place)  # the next entry of the map, not a field
        fields.canonical_spacing &= colon == after_key and text[colon + 1 : value_at] == " "
        value_end = _read_value(text, value_at, key, dialect, budget, fields)
        place, gap_ok = _after_value(text, value_end, fields)


def _after_value(text: str, value_end: int, fields: Fields) -> tuple[int, bool]:
    """Step over the comma; returns where the next key or the closing brace must stand."""
    place = skip_spaces(text, value_end)
    if place >= len(text):
        raise TruncatedText
    character = text[place]
    if character == "}":
        return place, place == value_end
    last = fields.geometries[-1] if fields.geometries else None
    if character == '"' and last and last.contents and last.contents.detail == "separator":
        return place, True  # the list lost its `]`; its comma stands inside it
    if character != ",":
        if character == "]" and closes_container(text, place):
            raise BrokenRecord("missing_brace", place)
        raise BrokenRecord("missing_comma", place, text[place : place + 20])
    following = skip_spaces(text, place + 1)
    if following < len(text) and text[following] == "}":
        fields.trailing_comma = True
        return following, True
    return following, place == value_end and text[place + 1 : following] == " "


def _read_value(
    text: str, at: int, key: str, dialect: Dialect, budget: NestedBudget, fields: Fields
) -> int:
    character = text[at]
    kind = _kind_of(key)
    if character == "[" and kind is not None:
        contents, after, inside_end = read_list(text, at, dialect.coordinates)
        fields.geometries.append(GeometryField(key, kind, contents, inside_end))
        fields.trailing_comma |= contents.trailing_comma
        fields.canonical_spacing &= not contents.spacing
        return after
    if character in "[{":
        end = skip_nested(text, at, budget)
    elif character == '"':
        # Before its geometry a description without an end was cut, whatever it holds.
        cut_short = key == "desc" and not fields.geometries
        value, end = read_string(text, at, ",}", cut_short=cut_short)
        if key == "desc" and fields.desc is None:
            fields.desc = value
    else:
        match = SCALAR.match(text, at)
        if match is None:
            if at + 5 >= len(text) and "falsenull true".find(text[at:]) >= 0:
                raise TruncatedText
            raise BrokenRecord("bad_value", at, text[at : at + 20])
        end = match.end()
    if kind is not None:
        fields.geometries.append(GeometryField(key, kind, None, end))
    return end


def _kind_of(key: str) -> GeometryKind | None:
    """The geometry that a key stands for, drifted keys such as bbox_3d included."""
    known = _KINDS_BY_KEY.get(key)
    if known is not None:
        return known
    return next((kind for prefix, kind in _DRIFTED_KINDS if key.startswith(prefix)), None)


def _judge(fields: Fields, dialect: Dialect) -> _Drop | None:
    unexpected = [key for key in fields.keys if key != "desc" and key not in _KINDS_BY_KEY]
    if unexpected:
        return reasons.UNEXPECTED_KEYS, ",".join(sorted(set(unexpected))), None, None
    repeated = sorted(key for key, times in Counter(fields.keys).items() if times > 1)
    if repeated:
        return reasons.DUPLICATE_KEYS, ",".join(repeated), None, None
    if fields.desc is None or not fields.desc.strip():
        detail = "absent" if "desc" not in fields.keys else "not_a_string"
        return reasons.MISSING_DESC, "blank" if fields.desc is not None else detail, None, None
    if not fields.geometries:
        return reasons.MISSING_GEOMETRY, "absent", None, None
    if len(fields.geometries) > 1:
        return reasons.MULTIPLE_GEOMETRY, ",".join(g.key for g in fields.geometries), None, None
    contents = fields.geometries[0].contents
    if contents is None:
        return reasons.MISSING_GEOMETRY, "not_a_list", None, None
    if contents.detail is not None:
        return reasons.WRONG_ARITY, contents.detail, contents.evidence, contents.slot
    assert contents.values is not None
    dropped = judge_values(
        contents.values, fields.geometries[0].kind, in_bins=dialect.coordinates != "pixel_int"
    )
    if dropped is None and dialect.enforce_field_order:
        first = "desc" if dialect.field_order == "desc_first" else fields.geometries[0].key
        if fields.keys[0] != first:
            return reasons.KEY_ORDER, None, None, None
    return dropped


def judge_values(
    values: Sequence[int], kind: GeometryKind, *, in_bins: bool, largest: int = MAX_BIN
) -> _Drop | None:
    """Arity, range and degeneracy of a plain list of coordinates; None where it is valid.

    Where the values are bins, none may be above `largest`.
    """
    count = len(values)
    if count < _LEAST_VALUES[kind]:
        return reasons.WRONG_ARITY, "too_few", None, None
    if kind == "bbox_2d" and count > 4:
        return reasons.WRONG_ARITY, "too_many", None, None
    if count % 2:
        return reasons.WRONG_ARITY, "odd_count", None, None
    if in_bins and max(values) > largest:
        slot = next(i for i, value in enumerate(values) if value > largest)
        return reasons.COORD_OUT_OF_RANGE, None, str(values[slot]), slot
    if kind == "bbox_2d":
        if values[2] <= values[0] or values[3] <= values[1]:
            return reasons.DEGENERATE_BOX, "empty_box", None, None
    elif kind == "poly" and doubled_area(values) == 0:
        return reasons.DEGENERATE_BOX, "zero_area", None, None
    return None


def doubled_area(values: Sequence[int]) -> int:
    """Twice the signed area of a flat polygon x, y, x, y, ... by the shoelace formula."""
    xs, ys = values[0::2], values[1::2]
    forward: int = sum(map(mul, xs, ys[1:]))  # map stops at the shorter one
    backward: int = sum(map(mul, ys, xs[1:]))
    return forward - backward + xs[-1] * ys[0] - ys[-1] * xs[0]


__all__ = ["MAP_KEY", "ReadRecord", "doubled_area", "judge_values", "read_record"]
