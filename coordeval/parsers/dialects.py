"""How a model writes objects down: the container, the coordinates and the field order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from coordeval.errors import ConfigError

Coordinates = Literal["token", "quoted_token", "bin_int", "pixel_int"]
FieldOrder = Literal["desc_first", "geometry_first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of writing detections as text.

    `container` is `list` (`{"objects": [...]}`) or `map` (`{"object_1": {...}, ...}`).
    `coordinates`: bare tokens, quoted tokens, integers that are bins, integers that are pixels.
    `field_order` is what writers emit; the parser enforces it only where `enforce_field_order`.
    """

    name: str
    container: Literal["list", "map"] = "list"
    coordinates: Coordinates = "token"
    field_order: FieldOrder = "desc_first"
    enforce_field_order: bool = False

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data, as run.json stores them."""
        return asdict(self)


DIALECTS: dict[str, Dialect] = {
    "coordjson": Dialect(name="coordjson"),
    "coordjson-quoted": Dialect(name="coordjson-quoted", coordinates="quoted_token"),
    "coordjson-bins": Dialect(name="coordjson-bins", coordinates="bin_int"),
    "coordjson-pixels": Dialect(name="coordjson-pixels", coordinates="pixel_int"),
    "object-map": Dialect(name="object-map", container="map", coordinates="quoted_token"),
    "object-map-bare": Dialect(name="object-map-bare", container="map"),
}
DEFAULT_DIALECT = "coordjson"


def dialect_named(
    name: str, *, field_order: FieldOrder | None = None, enforce_field_order: bool = False
) -> Dialect:
    """The dialect of that name, with a field order; ConfigError lists the known names."""
    try:
        dialect = DIALECTS[name]
    except KeyError:
        known = ", ".join(DIALECTS)
        raise ConfigError(f"unknown dialect {name!r}: use one of {known}") from None
    return replace(
        dialect,
        field_order=field_order or dialect.field_order,
        enforce_field_order=enforce_field_order,
    )


def dialect_from_json(raw: dict[str, Any]) -> Dialect:
    """The dialect that a run.json describes; ConfigError where its fields are unknown."""
    try:
        return Dialect(**raw)
    except TypeError as error:
        raise ConfigError(f"run.json describes an unknown dialect: {error}") from None


__all__ = [
    "DEFAULT_DIALECT",
    "DIALECTS",
    "Coordinates",
    "Dialect",
    "FieldOrder",
    "dialect_from_json",
    "dialect_named",
]
