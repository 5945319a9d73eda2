"""Records of the usual shape, a description and one geometry list, that are taken apart already.

What stands between the brackets of the list, or in the description, may be anything. Reading such
a record field by field says the same; this is only faster.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers import reasons
from coordeval.parsers.brackets import Contents, read_closed_list
from coordeval.parsers.judging import KINDS_BY_KEY, Drop, ReadRecord, judge_values, kind_of
from coordeval.parsers.lexer import decode
from coordeval.records import FoundRecord

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect

KEY = r"[A-Za-z0-9_]{1,24}+"
"""Keys of geometries, no longer than those that begin a record outside of a container."""
COORD_TOKEN = re.compile(r"<\|coord_(?:[0-9]+|\*)\|>")


class TwoFields(NamedTuple):
    """A record taken apart: its place, the description as written, the key and place of its list.

    `list_start` and `list_end` are the inside of the list.
    """

    start: int
    end: int
    raw_desc: str
    key: str
    list_start: int
    list_end: int


def judge_two_fields(text: str, written: TwoFields, dialect: Dialect) -> ReadRecord | None:
    """Judge a record by the first reason that holds; None where its key is no geometry's.

    Its fields stand in an order that the dialect takes.
    """
    kind = kind_of(written.key)
    if kind is None:
        return None
    desc = decode(written.raw_desc)
    contents = read_closed_list(text, written.list_start, written.list_end, dialect.coordinates)
    reason, detail, evidence, slot = _judge(desc, written, contents, dialect) or _VALID
    record = FoundRecord(
        written.start, written.end, desc, kind, contents.values, reason, detail, evidence, slot
    )
    return ReadRecord(record, written.end, _issues(desc, contents))


_VALID = (None, None, None, None)


def _judge(desc: str, written: TwoFields, contents: Contents, dialect: Dialect) -> Drop | None:
    key = written.key
    kind = KINDS_BY_KEY.get(key)
    if kind is None:
        return reasons.UNEXPECTED_KEYS, key, None, None
    if not desc.strip():
        return reasons.MISSING_DESC, "blank", None, None
    if contents.values is None or contents.detail is not None:
        return reasons.WRONG_ARITY, contents.detail, contents.evidence, contents.slot
    return judge_values(contents.values, kind, in_bins=dialect.coordinates != "pixel_int")


def _issues(desc: str, contents: Contents) -> tuple[str, ...]:
    names = []
    if contents.trailing_comma:
        names.append("trailing_comma")
    if contents.spacing:
        names.append("nonstandard_spacing")
    if COORD_TOKEN.search(desc):
        names.append("coord_token_in_desc")
    return tuple(names)


__all__ = ["COORD_TOKEN", "KEY", "TwoFields", "judge_two_fields"]
