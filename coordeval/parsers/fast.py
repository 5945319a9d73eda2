"""The fast path: a text that is one run of canonical records in its container, nothing else."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from coordeval.parsers.canonical import run_numbers
from coordeval.records import ParsedRollout

if TYPE_CHECKING:
    from coordeval.parsers.canonical import Run, Runs
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord

_HEAD, _TAIL = '{"objects": [', "]}"
_NO_RUN: Run = (0, -1, ())
_MAP_HEAD, _MAP_TAIL = re.compile(r'\{"object_(\d{1,9})": ', re.ASCII), "}"


def parse_fast(text: str, dialect: Dialect, runs: Runs) -> ParsedRollout | None:
    """Read such a text from its runs; None where it has to be walked."""
    if dialect.container == "map":
        return _parse_map(text, runs)
    if not text.startswith(_HEAD) or not text.endswith(_TAIL):
        return None
    if len(text) == len(_HEAD) + len(_TAIL):
        return ParsedRollout(records=[], issues={}, objects=[])
    records = runs.records
    _, stop, issues = runs.by_start.get(len(_HEAD), _NO_RUN)
    if stop < len(records) or not records or records[-1].end + len(_TAIL) != len(text):
        return None
    return _parsed(records, issues)


def _parse_map(text: str, runs: Runs) -> ParsedRollout | None:
    head = _MAP_HEAD.match(text)
    records = runs.records
    if head is None or not records or text[records[-1].end :] != _MAP_TAIL:
        return None
    _, stop, issues = runs.by_start.get(head.end(), _NO_RUN)
    if stop < len(records):
        return None
    numbers = [int(head[1]), *run_numbers(text, records)]
    order = sorted(range(len(records)), key=numbers.__getitem__)
    return _parsed([records[i] for i in order], issues)


def _parsed(records: list[FoundRecord], issues: tuple[str, ...]) -> ParsedRollout:
    objects = [record for record in records if record.reason is None]
    if len(objects) == len(records):
        objects = records
    counts = dict(Counter(issues)) if issues else {}
    return ParsedRollout(records=records, issues=counts, objects=objects)


__all__ = ["parse_fast"]
