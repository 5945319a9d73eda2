"""How a description may be written: any text without control characters, or one of a list."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from coordeval.decoding.expressions import Expr, Points, Star, alt, hex_numbers, seq, words
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LAST = 0x10FFFF
_LAST_BASIC = 0xFFFF
_SURROGATES = (0xD800, 0xDFFF)
_CONTROL = ((0x00, 0x1F), (0x7F, 0x9F))
_LAST_BLANK = 0x3000  # IDEOGRAPHIC SPACE; str.strip knows no white space beyond it
_QUOTE, _BACKSLASH = (0x22, 0x22), (0x5C, 0x5C)

_Ranges = tuple[tuple[int, int], ...]


@lru_cache(maxsize=1)
def _blanks() -> _Ranges:
    """Code points that `str.strip` removes, control characters left out."""
    control = {point for low, high in _CONTROL for point in range(low, high + 1)}
    points = [p for p in range(_LAST_BLANK + 1) if p not in control and chr(p).isspace()]
    return tuple((point, point) for point in points)


def _without(low: int, high: int, *holes: Iterable[tuple[int, int]]) -> _Ranges:
    """The range low..high without the holes, as ranges in ascending order."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(hole for group in holes for hole in group):
        if low < start:
            out.append((low, start - 1))
        low = max(low, stop + 1)
    if low <= high:
        out.append((low, high))
    return tuple(out)


@lru_cache(maxsize=1)
def open_description() -> Expr:
    r"""A JSON string of at least one character that is not blank, as `str.strip` sees it.

    Valid UTF-8 without control characters, which may not be spelled as escapes either. Escapes are
    `\"`, `\\`, `\/` and `\uXXXX` (either case, surrogates only in pairs).
    """
    unescaped = (_QUOTE, _BACKSLASH)
    blank = alt(Points(_blanks()), seq("\\u", hex_numbers(_blanks())))
    high, low = ((0xD800, 0xDBFF),), ((0xDC00, 0xDFFF),)
    pair = seq("\\u", hex_numbers(high), "\\u", hex_numbers(low))
    short = alt('\\"', "\\\\", "\\/")
    visible = alt(
        Points(_without(0, _LAST, _CONTROL, (_SURROGATES,), unescaped, _blanks())),
        seq("\\u", hex_numbers(_without(0, _LAST_BASIC, _CONTROL, (_SURROGATES,), _blanks()))),
        pair,
        short,
    )
    anything = alt(
        Points(_without(0, _LAST, _CONTROL, (_SURROGATES,), unescaped)),
        seq("\\u", hex_numbers(_without(0, _LAST_BASIC, _CONTROL, (_SURROGATES,)))),
        pair,
        short,
    )
    return seq('"', Star(blank), visible, Star(anything), '"')


def closed_description(names: Sequence[str]) -> Expr:
    """Exactly the JSON strings of these names; ConfigError for one that is no valid Unicode."""
    return words(spelled_names(names))


def spelled_names(names: Sequence[str]) -> list[bytes]:
    """The names as JSON strings in UTF-8; ConfigError for one that is no valid Unicode."""
    spelled = []
    for name in names:
        try:
            spelled.append(json.dumps(name, ensure_ascii=False).encode())
        except UnicodeEncodeError:
            raise ConfigError(f"the class name {name!a} is not valid Unicode") from None
    return spelled


__all__ = ["closed_description", "open_description", "spelled_names"]
