"""The entry of the parser: the fast path where it answers, the careful one for the rest.

Texts in other models' dialects go to the parser of their family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.parsers.canonical import find_runs
from coordeval.parsers.cogvlm import parse_cogvlm
from coordeval.parsers.container import parse_careful
from coordeval.parsers.dialects import (
    DEFAULT_DIALECT,
    DIALECTS,
    FOREIGN_DIALECTS,
    Dialect,
    Family,
    dialect_named,
)
from coordeval.parsers.fast import parse_fast
from coordeval.parsers.florence2 import parse_florence2
from coordeval.parsers.json_records import parse_json_records
from coordeval.parsers.paligemma import parse_paligemma
from coordeval.parsers.rex_omni import parse_rex_omni

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.records import ParsedRollout

PARSER_VERSION = "4"
"""Raised whenever the same text may be judged differently."""

FOREIGN_PARSERS: dict[Family, Callable[[str, Dialect], ParsedRollout]] = {
    "json": parse_json_records,
    "rex-omni": parse_rex_omni,
    "paligemma": parse_paligemma,
    "florence2": parse_florence2,
    "cogvlm": parse_cogvlm,
}


def parse(text: str, dialect: Dialect | str = DEFAULT_DIALECT) -> ParsedRollout:
    """Read what a model wrote: every record found, why it was dropped, what else is wrong.

    Never raises on any text, takes time linear in its length, and reconciles: found records are
    the valid objects plus the dropped ones. An empty text gives no records and `empty_output`.
    `dialect` is a Dialect or its name; an unknown name raises ConfigError.
    """
    if isinstance(dialect, str):
        dialect = DIALECTS.get(dialect) or FOREIGN_DIALECTS.get(dialect) or dialect_named(dialect)
    foreign = FOREIGN_PARSERS.get(dialect.family)
    if foreign is not None:
        return foreign(text, dialect)
    runs = find_runs(text, dialect)
    parsed = parse_fast(text, dialect, runs)
    return parsed if parsed is not None else parse_careful(text, dialect, runs)


__all__ = ["PARSER_VERSION", "parse"]
