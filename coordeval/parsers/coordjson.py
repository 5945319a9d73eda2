"""The entry of the parser: the fast path where it answers, the careful one for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.parsers.container import parse_careful
from coordeval.parsers.dialects import DEFAULT_DIALECT, Dialect, dialect_named
from coordeval.parsers.fast import parse_fast

if TYPE_CHECKING:
    from coordeval.records import ParsedRollout

PARSER_VERSION = "2"
"""Raised whenever the same text may be judged differently."""


def parse(text: str, dialect: Dialect | str = DEFAULT_DIALECT) -> ParsedRollout:
    """Read what a model wrote: every record found, why it was dropped, what else is wrong.

    Never raises on any text, takes time linear in its length, and reconciles: found records are
    the valid objects plus the dropped ones. An empty text gives no records and `empty_output`.
    `dialect` is a Dialect or its name; an unknown name raises ConfigError.
    """
    if isinstance(dialect, str):
        dialect = dialect_named(dialect)
    parsed = parse_fast(text, dialect)
    return parsed if parsed is not None else parse_careful(text, dialect)


__all__ = ["PARSER_VERSION", "parse"]
