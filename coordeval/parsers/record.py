"""One record: read its fields, then judge it by the first drop reason that holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.parsers import reasons
from coordeval.parsers.fields import MAP_KEY, Fields, read_fields
from coordeval.parsers.judging import (
    KINDS_BY_KEY,
    Drop,
    ReadRecord,
    doubled_area,
    judge_values,
)
from coordeval.parsers.lexer import (
    BrokenRecord,
    NestedBudget,
    TruncatedText,
    before_separator,
    resync,
)
from coordeval.parsers.two_fields import COORD_TOKEN
from coordeval.records import FoundRecord

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind


def read_record(
    text: str, opening: int, dialect: Dialect, budget: NestedBudget, *, shortcuts: bool = True
) -> ReadRecord:
    """Read the record whose `{` stands at `opening`.

    `after` is the length of the text where the record is truncated. A broken record ends where
    its closing brace or the next record is found, so that its neighbours are read as they stand.
    `shortcuts`: what is nothing special is read in larger steps, which says the same.
    """
    fields = Fields()
    try:
        end = read_fields(text, opening, dialect, budget, fields, shortcuts=shortcuts)
    except TruncatedText:
        return _truncated(text, opening, fields)
    except BrokenRecord as broken:
        return _broken(text, opening, broken, fields)
    judged = _found(opening, end, fields, _judge(fields, dialect))
    return ReadRecord(judged, end, _issues(fields))


def _broken(text: str, opening: int, broken: BrokenRecord, fields: Fields) -> ReadRecord:
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


def _truncated(text: str, opening: int, fields: Fields, issues: tuple[str, ...] = ()) -> ReadRecord:
    drop = (reasons.TRUNCATED_RECORD, None, None, None)
    return ReadRecord(_found(opening, len(text), fields, drop), len(text), issues)


def _found(start: int, end: int, fields: Fields, drop: Drop | None) -> FoundRecord:
    kind: GeometryKind | None = None
    values: tuple[int, ...] | None = None
    if len(fields.geometries) == 1:
        only = fields.geometries[0]
        kind = only.kind
        values = only.contents.values if only.contents is not None else None
    reason, detail, evidence, slot = drop or (None, None, None, None)
    return FoundRecord(start, end, fields.desc, kind, values, reason, detail, evidence, slot)


def _issues(fields: Fields) -> tuple[str, ...]:
    names = []
    if fields.trailing_comma:
        names.append("trailing_comma")
    if not fields.canonical_spacing:
        names.append("nonstandard_spacing")
    if fields.desc is not None and COORD_TOKEN.search(fields.desc):
        names.append("coord_token_in_desc")
    return tuple(names)


def _judge(fields: Fields, dialect: Dialect) -> Drop | None:
    keys = set(fields.keys)
    unexpected = [key for key in keys if key != "desc" and key not in KINDS_BY_KEY]
    if unexpected:
        return reasons.UNEXPECTED_KEYS, ",".join(sorted(unexpected)), None, None
    if len(keys) < len(fields.keys):
        repeated = sorted(key for key in keys if fields.keys.count(key) > 1)
        return reasons.DUPLICATE_KEYS, ",".join(repeated), None, None
    if fields.desc is None or not fields.desc.strip():
        detail = "absent" if "desc" not in keys else "not_a_string"
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


__all__ = [
    "MAP_KEY",
    "ReadRecord",
    "doubled_area",
    "judge_values",
    "read_record",
]
