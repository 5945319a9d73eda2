"""A record field by field: every key with its value, up to the closing brace or where it breaks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from coordeval.parsers.brackets import (
    INSIDE,
    Contents,
    read_closed_list,
    read_list,
    read_list_slowly,
)
from coordeval.parsers.judging import kind_of
from coordeval.parsers.lexer import (
    SCALAR,
    STRING_INSIDE,
    BrokenRecord,
    NestedBudget,
    TruncatedText,
    closes_container,
    decode,
    read_string,
    skip_nested,
    skip_spaces,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.parsers.dialects import Coordinates, Dialect
    from coordeval.records import GeometryKind

MAP_KEY = re.compile(r"object_([0-9]{1,9})")
_CANONICAL_AFTER = (", ", "}")
_W = r"[ \t\n\r]*+"
_PLAIN_KEY = re.compile(r'"([^"\\\x00-\x1f\ud800-\udfff]*+)": (?=[^ \t\n\r])')
_PLAIN_FIELD = re.compile(
    rf'"(?P<key>[^"\\\x00-\x1f\ud800-\udfff]*+)"(?P<colon>{_W}:{_W})'
    rf'(?:"(?P<string>{STRING_INSIDE})"|\[(?P<list>{INSIDE})\]|{SCALAR.pattern})'
    rf'(?P<after>{_W},{_W}(?:(?=")|\}})|{_W}\}})'
)


class GeometryField(NamedTuple):
    """One geometry field as written: its key, the kind it stands for, its list if it has one."""

    key: str
    kind: GeometryKind
    contents: Contents | None


@dataclass(slots=True)
class Fields:
    """What was read of a record before it closed or broke."""

    keys: list[str] = field(default_factory=list)
    desc: str | None = None
    geometries: list[GeometryField] = field(default_factory=list)
    canonical_spacing: bool = True
    trailing_comma: bool = False


def read_fields(
    text: str,
    opening: int,
    dialect: Dialect,
    budget: NestedBudget,
    fields: Fields,
    *,
    shortcuts: bool = True,
) -> int:
    """Read fields until the closing brace; returns the position after it.

    `shortcuts`: a field without surprises is read in one match, which says the same. Raises
    TruncatedText where the text ends first, BrokenRecord where no field can be read.
    """
    size = len(text)
    read_any = read_list if shortcuts else read_list_slowly
    place = skip_spaces(text, opening + 1)
    gap_ok = place == opening + 1
    while True:
        if shortcuts and (after := _read_plain_field(text, place, dialect, fields)) is not None:
            fields.canonical_spacing &= gap_ok
            gap_ok, place = True, after
            if text[after - 1] == "}":
                return after
            continue
        if place >= size:
            raise TruncatedText
        character = text[place]
        if character == "}":
            fields.canonical_spacing &= gap_ok or not fields.keys
            return place + 1
        if character != '"':
            raise BrokenRecord("missing_key", place, text[place : place + 20])
        fields.canonical_spacing &= gap_ok
        key, value_at, canonical = _read_key(text, place, shortcuts=shortcuts)
        if dialect.container == "map" and text[value_at] == "{" and MAP_KEY.fullmatch(key):
            raise BrokenRecord("missing_brace", place)  # the next entry of the map, not a field
        fields.keys.append(key)
        fields.canonical_spacing &= canonical
        value_end = _read_value(text, value_at, key, dialect, budget, fields, read_any)
        place, gap_ok = _after_value(text, value_end, fields)


def _read_key(text: str, place: int, *, shortcuts: bool) -> tuple[str, int, bool]:
    """The key at `place`, where its value stands, and whether the spaces between are canonical."""
    plain = _PLAIN_KEY.match(text, place) if shortcuts else None
    if plain is not None:
        return plain[1], plain.end(), True
    key, after_key = read_string(text, place, ":")
    colon = skip_spaces(text, after_key)
    value_at = skip_spaces(text, colon + 1)
    if value_at >= len(text):
        raise TruncatedText
    return key, value_at, colon == after_key and text[colon + 1 : value_at] == " "


def _read_plain_field(text: str, place: int, dialect: Dialect, fields: Fields) -> int | None:
    """Read a field and the comma or brace behind it; None where that takes a closer look.

    Returns the position where the next key stands, or behind the closing brace.
    """
    match = _PLAIN_FIELD.match(text, place)
    if match is None:
        return None
    key, colon, string, inside, after = match.groups()
    kind = kind_of(key)
    if inside is not None:
        if kind is None:
            if '"' in inside:  # whose end depends on escapes
                return None
        else:
            contents = read_closed_list(text, *match.span("list"), dialect.coordinates)
            fields.geometries.append(GeometryField(key, kind, contents))
            fields.trailing_comma |= contents.trailing_comma
            fields.canonical_spacing &= not contents.spacing
    else:
        if string is not None and key == "desc" and fields.desc is None:
            fields.desc = decode(string)
        if kind is not None:
            fields.geometries.append(GeometryField(key, kind, None))
    fields.keys.append(key)
    fields.canonical_spacing &= colon == ": "
    if after not in _CANONICAL_AFTER:
        if after[-1] == "}" and "," in after:
            fields.trailing_comma = True
        else:
            fields.canonical_spacing = False
    return match.end()


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
    text: str,
    at: int,
    key: str,
    dialect: Dialect,
    budget: NestedBudget,
    fields: Fields,
    read_any: Callable[[str, int, Coordinates], tuple[Contents, int]],
) -> int:
    character = text[at]
    kind = kind_of(key)
    if character == "[" and kind is not None:
        contents, after = read_any(text, at, dialect.coordinates)
        fields.geometries.append(GeometryField(key, kind, contents))
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
        fields.geometries.append(GeometryField(key, kind, None))
    return end


__all__ = ["MAP_KEY", "Fields", "read_fields"]
