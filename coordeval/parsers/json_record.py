"""One record of a JSON dialect: read its fields, then judge it by the first reason that holds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers import reasons
from coordeval.parsers.findings import Drop, judge_desc, judge_written
from coordeval.parsers.json_lists import ListRead, read_lists
from coordeval.parsers.lexer import (
    RECORD_KEY,
    STRING_INSIDE,
    BrokenRecord,
    NestedBudget,
    TruncatedText,
    before_separator,
    decode,
    read_string,
    resync,
    resync_pattern,
    skip_nested,
    skip_spaces,
)

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.parsers.findings import Findings
    from coordeval.parsers.record_keys import RecordKeys
    from coordeval.records import GeometryKind

_W = r"[ \t\n\r]*+"
_SCALAR = re.compile(
    r"(?:[+-]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?+\d++)?+"
    r"|true|false|null|True|False|None|NaN|-?+Infinity)(?![\w.])"
)
_UNESCAPED = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]++')
_LIST_END = re.compile(_W + r"\]" + _W + r"(?:\}?+" + _W + r"(?:\Z|<\||```))")


class Patterns(NamedTuple):
    """How records of a JSON dialect begin, by declared and drifted keys, and where one ends.

    `plain` are whole records of one geometry of whole numbers and a name, in either order; none
    where the keys don't tell those apart, or are not written as they are.
    """

    start: re.Pattern[str]
    key: re.Pattern[str]
    resync: re.Pattern[str]
    plain: tuple[re.Pattern[str], ...]


@lru_cache(maxsize=32)
def patterns(keys: RecordKeys) -> Patterns:
    """The patterns of a dialect's keys; names are taken literally, so nothing can backtrack."""
    geometries = (*keys.box, *keys.poly, *keys.line)
    known = _one_of((*keys.name, *geometries, *keys.ignored))
    key = f"(?:{RECORD_KEY.pattern}|" + f'"{known}"' + _W + ":)"
    start = r"\{" + _W + key
    resync = resync_pattern(start)
    return Patterns(re.compile(start), re.compile(key), resync, _plain(keys.name, geometries))


def _one_of(names: tuple[str, ...]) -> str:
    ordered = sorted(set(names), key=len, reverse=True)
    return f"(?:{'|'.join(re.escape(name) for name in ordered)})"


def _plain(names: tuple[str, ...], geometries: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    if not names or not geometries or set(names) & set(geometries):
        return ()
    if not all(_UNESCAPED.fullmatch(key) for key in (*names, *geometries)):
        return ()
    number = "(?:0|[1-9][0-9]{0,8}+)"
    numbers = f"{number}(?:{_W},{_W}{number})*+"
    name = rf'"{_one_of(names)}"{_W}:{_W}"(?P<name>{STRING_INSIDE})"'
    geometry = rf'"(?P<key>{_one_of(geometries)})"{_W}:{_W}\[{_W}(?P<list>{numbers}){_W}\]'
    return tuple(
        re.compile(r"\{" + _W + f"{_W},{_W}".join(fields) + _W + r"\}")
        for fields in ((geometry, name), (name, geometry))
    )


class Geometry(NamedTuple):
    """One geometry field as written; `lists` is None where its value is no list."""

    key: str
    kind: GeometryKind
    lists: tuple[ListRead, ...] | None


@dataclass(slots=True)
class Fields:
    """What was read of a record before it closed or broke."""

    keys: list[str] = field(default_factory=list)
    name_keys: list[str] = field(default_factory=list)
    desc: str | None = None
    geometries: list[Geometry] = field(default_factory=list)


def read_record(found: Findings, keys: RecordKeys, opening: int, budget: NestedBudget) -> int:
    """Read the record whose `{` stands at `opening` into `found`; returns where reading goes on.

    A broken record ends where its closing brace or the next record is found, so that its
    neighbours are read as they stand; one that the text's end cuts goes to the end.
    """
    text = found.text
    plain = _read_plain(found, keys, opening)
    if plain is not None:
        return plain
    fields = Fields()
    try:
        end = _read_fields(found, keys, opening, budget, fields)
    except TruncatedText:
        _dropped(found, fields, opening, len(text), (reasons.TRUNCATED_RECORD, None, None, None))
        return len(text)
    except BrokenRecord as broken:
        return _broken(found, keys, fields, opening, broken)
    _judge(found, keys, fields, opening, end)
    return end


def _read_plain(found: Findings, keys: RecordKeys, opening: int) -> int | None:
    """Read a record of one list of whole numbers and a name in one match; None for any other."""
    if found.dialect.enforce_field_order:
        return None
    matches = (pattern.match(found.text, opening) for pattern in patterns(keys).plain)
    match = next(filter(None, matches), None)
    if match is None:
        return None
    kind = kind_of(match["key"], keys)
    assert kind is not None
    scale = int(10**found.dialect.decimals)
    values = [int(number) * scale for number in match["list"].split(",")]
    found.add(opening, match.end(), decode(match["name"]), kind, values)
    return match.end()


def _broken(
    found: Findings, keys: RecordKeys, fields: Fields, opening: int, broken: BrokenRecord
) -> int:
    """Drop a broken record and return where the next one may begin."""
    text = found.text
    found.issues["unclosed_string"] += broken.detail == "unclosed_string"
    drop: Drop = (reasons.MALFORMED_RECORD, broken.detail, broken.evidence, None)
    if broken.detail == "missing_brace" or _LIST_END.match(text, broken.resync_from):
        end = before_separator(text, opening, broken.resync_from)
    else:
        end, ends = resync(text, opening, broken.resync_from, patterns(keys).resync)
        if not ends:
            drop = (reasons.TRUNCATED_RECORD, None, None, None)
    _dropped(found, fields, opening, end, drop)
    return end


def _dropped(found: Findings, fields: Fields, opening: int, end: int, drop: Drop) -> None:
    """Add a dropped record with what could be read of it."""
    kind: GeometryKind | None = None
    values: tuple[int, ...] | None = None
    if len(fields.geometries) == 1:
        only = fields.geometries[0]
        kind = only.kind
        if only.lists is not None and len(only.lists) == 1:
            values = only.lists[0].values
    found.drop(opening, end, drop, desc=fields.desc, kind=kind, written=values)


def _read_fields(
    found: Findings, keys: RecordKeys, opening: int, budget: NestedBudget, fields: Fields
) -> int:
    """Read fields until the closing brace; returns the position after it."""
    text, size = found.text, len(found.text)
    place = skip_spaces(text, opening + 1)
    while True:
        if place >= size:
            raise TruncatedText
        if text[place] == "}":
            return place + 1
        if text[place] != '"':
            raise BrokenRecord("missing_key", place, text[place : place + 20])
        key, after_key = read_string(text, place, ":")
        fields.keys.append(key)
        value_at = skip_spaces(text, skip_spaces(text, after_key) + 1)
        if value_at >= size:
            raise TruncatedText
        value_end = _read_value(found, keys, key, value_at, budget, fields)
        place = _after_value(found, value_end, fields)


def _after_value(found: Findings, value_end: int, fields: Fields) -> int:
    """Step over the comma; returns where the next key or the closing brace must stand."""
    text = found.text
    place = skip_spaces(text, value_end)
    if place >= len(text):
        raise TruncatedText
    if text[place] == "}":
        return place
    last = fields.geometries[-1] if fields.geometries else None
    if text[place] == '"' and last and last.lists and last.lists[-1].detail == "separator":
        return place  # the list lost its `]`; its comma stands inside it
    if text[place] != ",":
        if _LIST_END.match(text, place):
            raise BrokenRecord("missing_brace", place)
        raise BrokenRecord("missing_comma", place, text[place : place + 20])
    following = skip_spaces(text, place + 1)
    if text.startswith("}", following):
        found.issues["trailing_comma"] += 1
    return following


def _read_value(
    found: Findings, keys: RecordKeys, key: str, at: int, budget: NestedBudget, fields: Fields
) -> int:
    """Read or skip the value of one key; returns the position after it."""
    text = found.text
    kind = kind_of(key, keys)
    character = text[at]
    if character == "[" and kind is not None:
        read = read_lists(
            text,
            at,
            kind=kind,
            several=keys.several,
            decimals=found.dialect.decimals,
            record_start=patterns(keys).start,
        )
        fields.geometries.append(Geometry(key, kind, read.lists))
        found.issues["trailing_comma"] += read.trailing_comma
        return read.after
    if character in "[{":
        end = skip_nested(text, at, budget)
    elif character == '"':
        value, end = read_string(
            text, at, ",}", cut_short=key in keys.name and not fields.geometries
        )
        if key in keys.name and fields.desc is None:
            fields.desc = value
    else:
        match = _SCALAR.match(text, at)
        if match is None:
            raise BrokenRecord("bad_value", at, text[at : at + 20])
        end = match.end()
        if end == len(text):
            raise TruncatedText
    if key in keys.name:
        fields.name_keys.append(key)
    if kind is not None:
        fields.geometries.append(Geometry(key, kind, None))
    return end


def kind_of(key: str, keys: RecordKeys) -> GeometryKind | None:
    """The geometry that a key stands for; None for any other key."""
    if key in keys.box:
        return "bbox_2d"
    if key in keys.poly:
        return "poly"
    return "line" if key in keys.line else None


def _judge(found: Findings, keys: RecordKeys, fields: Fields, start: int, end: int) -> None:
    """Add a record that closed: valid, or dropped for the first reason that holds."""
    drop = _judge_fields(keys, fields)
    if drop is not None:
        _dropped(found, fields, start, end, drop)
        return
    only = fields.geometries[0]
    assert only.lists is not None
    alone = len(only.lists) == 1
    for number, read in enumerate(only.lists):
        at = start if number == 0 else read.start
        until = end if alone else read.end
        if read.detail is not None:
            drop = (reasons.WRONG_ARITY, read.detail, read.evidence, read.slot)
        else:
            drop = judge_written(read.values or (), only.kind, found.dialect)
            drop = drop or _wrong_order(found.dialect, keys, fields)
        if drop is not None:
            found.drop(at, until, drop, desc=fields.desc, kind=only.kind, written=read.values)
        else:
            found.add(at, until, fields.desc, only.kind, read.values or ())


def _judge_fields(keys: RecordKeys, fields: Fields) -> Drop | None:
    """The reasons that hold for a record as a whole."""
    expected = (*keys.name, *keys.box, *keys.poly, *keys.line, *keys.ignored)
    unexpected = sorted({key for key in fields.keys if key not in expected})
    if unexpected:
        return reasons.UNEXPECTED_KEYS, ",".join(unexpected), None, None
    repeated = sorted(key for key, count in Counter(fields.keys).items() if count > 1)
    if not repeated and len(fields.name_keys) > 1:
        repeated = sorted(fields.name_keys)
    if repeated:
        return reasons.DUPLICATE_KEYS, ",".join(repeated), None, None
    if fields.desc is None and fields.name_keys:
        return reasons.MISSING_DESC, "not_a_string", None, None
    if (drop := judge_desc(fields.desc)) is not None:
        return drop
    if not fields.geometries:
        return reasons.MISSING_GEOMETRY, "absent", None, None
    if len(fields.geometries) > 1:
        named = ",".join(item.key for item in fields.geometries)
        return reasons.MULTIPLE_GEOMETRY, named, None, None
    if fields.geometries[0].lists is None:
        return reasons.MISSING_GEOMETRY, "not_a_list", None, None
    return None


def _wrong_order(dialect: Dialect, keys: RecordKeys, fields: Fields) -> Drop | None:
    """`key_order` where an order is enforced and the first key that counts is the other one."""
    if not dialect.enforce_field_order:
        return None
    first = next(key for key in fields.keys if key not in keys.ignored)
    if (first in keys.name) == (dialect.field_order == "desc_first"):
        return None
    return reasons.KEY_ORDER, None, None, None


__all__ = ["Patterns", "patterns", "read_record"]
