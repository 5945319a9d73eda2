"""The grammar as Lark text, for the guidance backend of a server that lacks our logits processor.

A context-free grammar cannot compare coordinates: boxes may come out empty, and unsorted; keys of a
map are any numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from coordeval.decoding.descriptions import open_description
from coordeval.decoding.expressions import Alt, Bytes, Expr, OneOf, Points, Seq, Star
from coordeval.decoding.language import LEAST_VALUES, language_of
from coordeval.decoding.spelling import check_spelling
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.decoding.settings import ConstraintSettings
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind


_KEY = '"object_'


def lark_grammar(settings: ConstraintSettings, dialect: Dialect, table: TokenTable) -> str:
    """The language of a `grammar` constraint without order and sorting, coordinates as token ids.

    The end token is not part of it: the server allows it where the grammar may end. Raises
    ConfigError for other modes and for dialects of numbers, CheckpointError for a vocabulary that
    cannot spell the language.
    """
    if settings.mode != "grammar":
        raise ConfigError(
            f"--constrain {settings.mode} is more than a server's own grammar can express: load "
            "coordeval's logits processor in the server, or use --constrain grammar"
        )
    language_of(settings, dialect)  # refuses what cannot be constrained
    check_spelling(settings, dialect, table)
    comma, colon = (", ", ": ") if settings.separators == "spaced" else (",", ":")
    quote = '"' if dialect.coordinates == "quoted_token" else ""
    rules = [
        # Without it, only one tokenisation of a text that must come is allowed.
        '%llguidance {"no_forcing": true}',
        *_container_rules(settings, dialect, comma, colon),
        "geometry: " + " | ".join(settings.geometries),
        *(_geometry_rule(kind, comma, colon, settings.max_points) for kind in settings.geometries),
        f"coord: {_text(quote)} <[{_id_ranges(table.coords.token_ids)}]> {_text(quote)}",
        *_description_rules(settings.class_names),
    ]
    return "\n".join(rules) + "\n"


def _container_rules(
    settings: ConstraintSettings, dialect: Dialect, comma: str, colon: str
) -> list[str]:
    """The container, its records and their fields."""
    is_map = dialect.container == "map"
    head, foot = ("{", "}") if is_map else (f'{{"objects"{colon}[', "]}")
    field = _text(f'"desc"{colon}') + " desc"
    parts = [field, "geometry"] if dialect.field_order == "desc_first" else ["geometry", field]
    record = f"{_text('{')} {parts[0]} {_text(comma)} {parts[1]} {_text('}')}"
    if is_map:
        record = f"{_text(_KEY)} NUMBER {_text(chr(34) + colon)} {record}"
    more = _repeated(f"({_text(comma)} record)", settings.max_objects, 1)
    return [
        f"start: {_text(head)} records {_text(foot)}",
        f'records: "" | record{more}',
        f"record: {record}",
        *(["NUMBER: /[1-9][0-9]{0,8}/"] if is_map else []),
    ]


def _geometry_rule(kind: GeometryKind, comma: str, colon: str, max_points: int | None) -> str:
    least = LEAST_VALUES[kind]
    between = f" {_text(comma)} "
    listed = between.join(["coord"] * least)
    if kind != "bbox_2d":
        listed += _repeated(f"({between}coord{between}coord)", max_points, least // 2)
    return f"{kind}: {_text(f'{chr(34)}{kind}{chr(34)}{colon}[')} {listed} {_text(']')}"


def _repeated(inner: str, most: int | None, already: int) -> str:
    """What more may follow, once `already` stand there; llguidance knows no bound of 0."""
    if most is None:
        return f" {inner}*"
    return f" {inner}{{0,{most - already}}}" if most > already else ""


def _description_rules(names: tuple[str, ...] | None) -> list[str]:
    if names is None:
        return ["desc: DESC", f"DESC: /{_pattern(open_description())}/"]
    spelled = sorted({json.dumps(name, ensure_ascii=False) for name in names})
    return ["desc: " + " | ".join(_text(name) for name in spelled)]


def _text(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False)


def _id_ranges(token_ids: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for token_id in sorted(token_ids):
        if runs and runs[-1][1] == token_id - 1:
            runs[-1][1] = token_id
        else:
            runs.append([token_id, token_id])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)


def _pattern(expr: Expr) -> str:
    """An expression of text as a regular expression."""
    if isinstance(expr, Bytes):
        return "".join(_escaped(ord(character)) for character in expr.data.decode())
    if isinstance(expr, OneOf | Points):
        ranges = (
            _escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}"
            for low, high in expr.ranges
        )
        return "[" + "".join(ranges) + "]"
    if isinstance(expr, Seq):
        return "".join(_pattern(part) for part in expr.parts)
    if isinstance(expr, Alt):
        return "(" + "|".join(_pattern(option) for option in expr.options) + ")"
    assert isinstance(expr, Star), "descriptions hold nothing else"
    return f"({_pattern(expr.inner)})*"


def _escaped(point: int) -> str:
    if point < 0x80 and chr(point).isalnum():
        return chr(point)
    return f"\\x{{{point:X}}}"


__all__ = ["lark_grammar"]
