"""How much of a rollout an answer can be made of that goes on behind it and is closed.

Where text is broken the parser still reads the records in it, as in a container within a container
that was cut off. What is written behind them may heal the break and make them part of something
else, so that nothing would read them any more, and no closing be the right one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordeval.data.canonical import render_record
from coordeval.parsers import parse
from coordeval.training.stage2.targets_prefix import (
    closing_text,
    lead_text,
    left_open_text,
    next_number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord
    from coordeval.training.stage2.reading import ReadRollout

_PROBE = ("x", "bbox_2d", (0, 0, 1, 1))


def lasting(reading: ReadRollout, dialect: Dialect) -> ReadRollout:
    """A readable rollout with as many of its whole records as last, the first ones.

    They last where they are still read as they are once the answer is closed behind them, and once
    one more record stands there. Where not even the opening of the container does, there is nothing
    to go on from, and the rollout is `invalid`.
    """
    for count in range(len(reading.whole), -1, -1):
        shorter = replace(reading, whole=reading.whole[:count])
        if _lasts(shorter, dialect):
            return shorter
    return replace(reading, status="invalid", inside=0, whole=())


def _lasts(reading: ReadRollout, dialect: Dialect) -> bool:
    whole = reading.whole
    text = reading.written.text[: whole[-1].end if whole else reading.inside]
    text += left_open_text(reading)
    more = lead_text(dialect, len(whole), next_number(reading)) + render_record(*_PROBE, dialect)
    wanted = [_told(record) for record in whole]
    closing = closing_text(dialect)
    return _records(text + closing, dialect) == wanted and _records(
        text + more + closing, dialect
    ) == [*wanted, (None, *_PROBE)]


def _records(text: str, dialect: Dialect) -> Sequence[object] | None:
    """What stands in a text, in its order; None for one that is not closed."""
    parsed = parse(text, dialect)
    if {"truncated", "no_container"} & parsed.issues.keys():
        return None
    return [_told(record) for record in sorted(parsed.records, key=lambda one: one.start)]


def _told(record: FoundRecord) -> object:
    return record.reason, record.desc, record.kind, record.values


__all__ = ["lasting"]
