"""A dialect that a user declares in a few lines of TOML; all keys and their meaning stand here.

name = "our-json"
list = "detections"            # key of the list; without it the list stands bare
name_key = "class"             # or name_keys = ["class", "label"]
box_key = "box"                # also poly_key, line_key; or lists of keys
ignore = ["score"]             # keys that may stand in a record and are not read
coordinates = "fraction"       # fraction (0..1), bins, or pixels
corners = "xyxy"               # xyxy, yxyx or xywh
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from coordeval.coords import frame_named
from coordeval.documents import read_toml, refuse_unknown_keys
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import (
    CORNERS,
    FOREIGN_DIALECTS,
    SPELLINGS,
    Coordinates,
    Dialect,
    FieldOrder,
    with_field_order,
)
from coordeval.parsers.record_keys import RecordKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

_Choice = TypeVar("_Choice", bound=str)

MAX_KEYS, MAX_KEY_CHARS = 32, 80
FRACTION_DECIMALS = 6
"""Fractions are kept as millionths; further digits are rounded."""
_COORDINATES = ("bins", "pixels", "fraction")
_FIELD_ORDERS: tuple[FieldOrder, ...] = ("desc_first", "geometry_first")
_KEY_FIELDS = ("name", "box", "poly", "line")
_KNOWN = (
    "name",
    "like",
    "list",
    *(f"{field}_key" for field in _KEY_FIELDS),
    *(f"{field}_keys" for field in _KEY_FIELDS),
    "ignore",
    "several",
    "coordinates",
    "bins",
    "max_value",
    "decimals",
    "corners",
    "frame",
    "field_order",
    "enforce_field_order",
)
_ONLY_JSON = ("list", "ignore", "several", "decimals")


def read_declared(path: str | Path) -> Dialect:
    """The dialect that a TOML file declares.

    Raises ConfigError, naming the file and the key, for files that cannot be read, unknown keys
    (with a suggestion), wrong types and values, and combinations that mean nothing.
    """
    path = Path(path)
    return declared(read_toml(path), where=str(path), name=path.stem)


def declared(raw: Mapping[str, Any], *, where: str, name: str) -> Dialect:
    """The dialect that the keys of a TOML file describe; `name` is its name where it gives none."""
    return _Declaration(raw, where).dialect(name)


class _Declaration:
    """The keys of one file, read with their types checked."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw, self.where = raw, where
        refuse_unknown_keys(raw, _KNOWN, where)

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.where}: {message}")

    def dialect(self, name: str) -> Dialect:
        base = self._base()
        name = self.text("name") or name
        if not name.strip() or len(name) > MAX_KEY_CHARS:
            raise self.error(f"'name' must be 1 to {MAX_KEY_CHARS} characters")
        dialect = replace(base, name=name, keys=self._keys(base))
        dialect = self._numbers(dialect)
        order = self.one_of("field_order", _FIELD_ORDERS) or dialect.field_order
        dialect = replace(dialect, corners=self.one_of("corners", CORNERS) or dialect.corners)
        frame = self.text("frame")
        if frame is not None:
            dialect = self._with_frame(dialect, frame)
        enforce = self.flag("enforce_field_order")
        if enforce and dialect.family != "json":
            raise self.error(
                f"'enforce_field_order' is for JSON, and {self.raw['like']} has only one order"
            )
        try:
            return with_field_order(dialect, order, enforce=enforce)
        except ConfigError:
            only = f"{self.raw['like']} has only {dialect.field_order}; leave it out"
            raise self.error(f"field_order {order!r}: {only}") from None

    def _base(self) -> Dialect:
        like = self.text("like")
        if like is None:
            return Dialect(name="", coordinates="bin_int", family="json", keys=RecordKeys())
        base = FOREIGN_DIALECTS.get(SPELLINGS.get(like, like))
        if base is None:
            raise self.error(f"like {like!r}: use one of {', '.join(FOREIGN_DIALECTS)}")
        if base.family != "json":
            json_only = (*_ONLY_JSON, *(key for key in _KNOWN if key.endswith(("_key", "_keys"))))
            named = [key for key in self.raw if key in json_only]
            if named:
                raise self.error(f"{named[0]!r} is for JSON, and {like} is written otherwise")
        return base

    def _keys(self, base: Dialect) -> RecordKeys | None:
        if base.keys is None:
            return None
        keys = replace(
            base.keys,
            objects=self.text("list") or base.keys.objects,
            ignored=self.names("ignore") or base.keys.ignored,
            several=self.flag("several") or base.keys.several,
        )
        poly, line = self._one_or_more("poly"), self._one_or_more("line")
        # Who declares other geometries, and no box, has none.
        box = keys.box if "like" in self.raw or not (poly or line) else ()
        keys = replace(
            keys,
            name=self._one_or_more("name") or keys.name,
            box=self._one_or_more("box") or box,
            poly=poly or keys.poly,
            line=line or keys.line,
        )
        meanings = (*keys.name, *keys.box, *keys.poly, *keys.line, *keys.ignored)
        twice = next((name for name in meanings if meanings.count(name) > 1), None)
        if twice is not None:
            raise self.error(f"the key {twice!r} has two meanings")
        return keys

    def _one_or_more(self, field: str) -> tuple[str, ...]:
        single, many = self.text(f"{field}_key"), self.names(f"{field}_keys")
        if single is not None and many:
            raise self.error(f"give {field}_key or {field}_keys, not both")
        return (single,) if single is not None else many

    def _numbers(self, dialect: Dialect) -> Dialect:
        """What a number is: its kind, its range and its decimals."""
        kind = self.one_of("coordinates", _COORDINATES)
        if kind is None and "like" not in self.raw:
            raise self.error(
                "'coordinates' is missing: say what a number means: bins, pixels or fraction"
            )
        bins, largest = self.whole("bins", 2), self.whole("max_value", 1)
        decimals = self.whole("decimals", 0, most=6)
        if bins is not None and largest is not None:
            raise self.error("give bins or max_value, not both")
        if kind in {"pixels", "fraction"} and (bins is not None or largest is not None):
            raise self.error(f"bins and max_value are for coordinates = 'bins', not {kind!r}")
        if kind == "fraction" and dialect.family != "json":
            raise self.error(
                f"coordinates = 'fraction' is for JSON, and {self.raw['like']} writes whole numbers"
            )
        if kind == "fraction":
            return replace(
                dialect,
                coordinates="bin_int",
                max_value=1,
                frame="unit-1",
                decimals=FRACTION_DECIMALS if decimals is None else decimals,
            )
        if kind is not None:
            written: Coordinates = "pixel_int" if kind == "pixels" else "bin_int"
            dialect = replace(dialect, coordinates=written, max_value=None, frame=None)
        if decimals is not None:
            dialect = replace(dialect, decimals=decimals)
        if bins is not None:
            frame = f"unit-{bins}"
            return replace(dialect, coordinates="bin_int", max_value=bins - 1, frame=frame)
        if largest is not None:
            frame = f"unit-{largest}"
            return replace(dialect, coordinates="bin_int", max_value=largest, frame=frame)
        if kind == "bins" and "frame" not in self.raw:
            raise self.error(
                "coordinates = 'bins' needs bins = N (0..N-1 over the whole image), "
                "max_value = N (0..N), or a frame"
            )
        return dialect

    def _with_frame(self, dialect: Dialect, name: str) -> Dialect:
        """The dialect with the frame of that name, if it can be what its numbers mean."""
        try:
            frame = frame_named(name)
        except ConfigError as error:
            raise self.error(str(error)) from None
        in_pixels = frame.extent in {"pixel", "resized"}
        if self.raw.get("coordinates") == "fraction":
            raise self.error("coordinates = 'fraction' is over the image: 'frame' cannot be given")
        if in_pixels != (dialect.coordinates == "pixel_int"):
            kind = "pixels" if in_pixels else "bins"
            raise self.error(f"frame {name!r} is for coordinates = {kind!r}")
        if in_pixels or not name.startswith("unit-"):
            return replace(dialect, frame=frame.name)
        if dialect.max_value is None and self.raw.get("coordinates") == "bins":
            return replace(dialect, frame=frame.name, max_value=frame.denominator)
        largest = (dialect.largest or 0) // 10**dialect.decimals
        if frame.denominator not in {largest, largest + 1}:
            raise self.error(
                f"frame {name!r} does not fit numbers of 0..{largest}; leave it out, or give bins "
                "or max_value"
            )
        return replace(dialect, frame=frame.name)

    # One key of the file, with its type checked.

    def text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_CHARS:
            raise self.error(f"{key!r} must be a string of 1 to {MAX_KEY_CHARS} characters")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.raw.get(key, [])
        fits = isinstance(value, list) and len(value) <= MAX_KEYS
        if not fits or not all(isinstance(n, str) and 0 < len(n) <= MAX_KEY_CHARS for n in value):
            raise self.error(f"{key!r} must be a list of up to {MAX_KEYS} keys")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self.raw.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key!r} must be true or false")
        return value

    def whole(self, key: str, least: int, *, most: int = 10**9) -> int | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(f"{key!r} must be a whole number from {least} to {most}")
        return value

    def one_of(self, key: str, choices: tuple[_Choice, ...]) -> _Choice | None:
        value = self.raw.get(key)
        if value is None:
            return None
        for choice in choices:
            if value == choice:
                return choice
        raise self.error(f"{key} {value!r}: use one of {', '.join(choices)}")


__all__ = ["FRACTION_DECIMALS", "declared", "read_declared"]
