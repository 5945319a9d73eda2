"""How a model writes objects down: the family, the container, the coordinates, the field order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from coordeval.coords import MAX_BIN, CoordFrame, frame_named
from coordeval.errors import ConfigError
from coordeval.parsers.record_keys import RecordKeys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import UnionType

Coordinates = Literal["token", "quoted_token", "bin_int", "pixel_int"]
FieldOrder = Literal["desc_first", "geometry_first"]
Family = Literal["coordjson", "json", "rex-omni", "paligemma", "florence2", "cogvlm"]
Corners = Literal["xyxy", "yxyx", "xywh"]

AUTO_DIALECT = "auto"
FAMILIES: tuple[Family, ...] = ("coordjson", "json", "rex-omni", "paligemma", "florence2", "cogvlm")
CORNERS: tuple[Corners, ...] = ("xyxy", "yxyx", "xywh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of writing detections as text.

    `container` is `list` (`{"objects": [...]}`) or `map` (`{"object_1": {...}, ...}`).
    `coordinates`: bare tokens, quoted tokens, integers that are bins, integers that are pixels.
    `field_order` is what writers emit; the parser enforces it only where `enforce_field_order`.

    The rest describes other models' dialects. `family` is the syntax, one parser each. `frame` is
    what a number means in pixels (None: the run's frame, or plain pixels); it wins over the run's,
    whose meaning is that of coordinate tokens. `max_value` is the largest number of the grid (None:
    999 for bins, no limit for pixels). `corners` is the order in which a box is written; found
    records always hold x1, y1, x2, y2. `decimals`: numbers may have a fraction, and values are
    kept as whole multiples of 10 ** -decimals. `keys` names the fields of a `json` dialect.
    """

    name: str
    container: Literal["list", "map"] = "list"
    coordinates: Coordinates = "token"
    field_order: FieldOrder = "desc_first"
    enforce_field_order: bool = False
    family: Family = "coordjson"
    frame: str | None = None
    max_value: int | None = None
    corners: Corners = "xyxy"
    decimals: int = 0
    keys: RecordKeys | None = None

    @property
    def is_foreign(self) -> bool:
        """True for other models' dialects, which coordeval reads but does not control."""
        return self.family != "coordjson"

    @property
    def largest(self) -> int | None:
        """The largest value (as found records hold it) that is on the grid; None: no limit."""
        if self.max_value is not None:
            return int(self.max_value * 10**self.decimals)
        return None if self.coordinates == "pixel_int" else int(MAX_BIN * 10**self.decimals)

    def to_json(self) -> dict[str, Any]:
        """All that describes it as plain data, as run.json stores it.

        What only other models' dialects use is left out where it is not used: run.json, and the
        name of the run that is made of it, stay what they were before there were such dialects.
        """
        raw = asdict(self)
        for name, default in _FOREIGN_DEFAULTS.items():
            if raw[name] == default:
                del raw[name]
        return raw


_FOREIGN = ("family", "frame", "max_value", "corners", "decimals", "keys")
_FOREIGN_DEFAULTS = {item.name: item.default for item in fields(Dialect) if item.name in _FOREIGN}


def _qwen(name: str, coordinates: Coordinates, frame: str, max_value: int | None) -> Dialect:
    return Dialect(
        name=name,
        coordinates=coordinates,
        field_order="geometry_first",
        family="json",
        frame=frame,
        max_value=max_value,
        keys=RecordKeys(name=("label", "text_content")),
    )


# The limits of the published checkpoints' preprocessor_config.json: 4 to 16,384 cells of 28 x 28.
QWEN25_FRAME = "resized-28:3136:12845056"

DIALECTS: dict[str, Dialect] = {
    "coordjson": Dialect(name="coordjson"),
    "coordjson-quoted": Dialect(name="coordjson-quoted", coordinates="quoted_token"),
    "coordjson-bins": Dialect(name="coordjson-bins", coordinates="bin_int"),
    "coordjson-pixels": Dialect(name="coordjson-pixels", coordinates="pixel_int"),
    "object-map": Dialect(name="object-map", container="map", coordinates="quoted_token"),
    "object-map-bare": Dialect(name="object-map-bare", container="map"),
}
DEFAULT_DIALECT = "coordjson"

FOREIGN_DIALECTS: dict[str, Dialect] = {
    "qwen25vl": _qwen("qwen25vl", "pixel_int", QWEN25_FRAME, None),
    "qwen3vl": _qwen("qwen3vl", "bin_int", "unit-1000", 1000),
    "rex-omni": Dialect(
        name="rex-omni", coordinates="bin_int", family="rex-omni", frame="unit-999"
    ),
    "paligemma": Dialect(
        name="paligemma",
        coordinates="bin_int",
        field_order="geometry_first",
        family="paligemma",
        frame="unit-1024",
        max_value=1023,
        corners="yxyx",
    ),
    "florence2": Dialect(
        name="florence2", coordinates="bin_int", family="florence2", frame="centre-1000"
    ),
    "cogvlm": Dialect(name="cogvlm", coordinates="bin_int", family="cogvlm", frame="unit-1000"),
}
"""What other models write off the shelf; their sources stand in the parser of each family."""

SPELLINGS = {
    "qwen2.5vl": "qwen25vl",
    "qwen2.5-vl": "qwen25vl",
    "qwen2_5_vl": "qwen25vl",
    "qwen3-vl": "qwen3vl",
    "qwen3_vl": "qwen3vl",
    "rexomni": "rex-omni",
    "rex": "rex-omni",
    "paligemma2": "paligemma",
    "florence": "florence2",
    "florence-2": "florence2",
}
"""Other spellings of the names above; run.json always stores the name itself."""


def known_dialects() -> dict[str, Dialect]:
    """All dialects that have a name, coordeval's own first."""
    return DIALECTS | FOREIGN_DIALECTS


def dialect_named(
    name: str, *, field_order: FieldOrder | None = None, enforce_field_order: bool = False
) -> Dialect:
    """The dialect of that name, or the one that a TOML file declares, with a field order.

    ConfigError lists the known names; `auto` is no dialect but a question, which only commands
    that read existing texts can answer.
    """
    if name.endswith(".toml"):
        from coordeval.parsers.declared import read_declared

        dialect = read_declared(name)
    elif name == AUTO_DIALECT:
        raise ConfigError(
            "--dialect auto looks at texts that are written already; here a dialect has to be "
            f"named: use one of {', '.join(known_dialects())}"
        )
    elif (found := known_dialects().get(SPELLINGS.get(name, name))) is not None:
        dialect = found
    else:
        known = ", ".join(known_dialects())
        raise ConfigError(
            f"unknown dialect {name!r}: use one of {known}, or a TOML file that declares one"
        )
    return with_field_order(dialect, field_order, enforce=enforce_field_order)


def with_field_order(
    dialect: Dialect, field_order: FieldOrder | None, *, enforce: bool = False
) -> Dialect:
    """The dialect with another order of fields; ConfigError where its syntax has only one."""
    if dialect.family not in {"coordjson", "json"} and field_order not in {
        None,
        dialect.field_order,
    }:
        raise ConfigError(
            f"--field-order {field_order}: the dialect {dialect.name} has only "
            f"{dialect.field_order}; leave it out"
        )
    return replace(
        dialect, field_order=field_order or dialect.field_order, enforce_field_order=enforce
    )


_KNOWN_VALUES: dict[str, tuple[object, ...]] = {
    "container": ("list", "map"),
    "coordinates": get_args(Coordinates),
    "field_order": get_args(FieldOrder),
    "decimals": tuple(range(10)),
}
_TYPES: dict[str, type | UnionType] = {
    "name": str,
    "enforce_field_order": bool,
    "frame": str | None,
    "max_value": int | None,
}


def dialect_from_json(raw: Mapping[str, Any]) -> Dialect:
    """The dialect that a run.json describes; ConfigError where its fields are unknown."""
    values = dict(raw)
    try:
        if isinstance(values.get("keys"), dict):
            values["keys"] = RecordKeys.from_json(values["keys"])
        dialect = Dialect(**values)
    except TypeError as error:
        raise ConfigError(f"run.json describes an unknown dialect: {error}") from None
    odd = [name for name, known in _KNOWN_VALUES.items() if getattr(dialect, name) not in known]
    odd += [name for name, kind in _TYPES.items() if not isinstance(getattr(dialect, name), kind)]
    if odd:
        raise ConfigError(f"run.json describes an unknown dialect: {', '.join(odd)}")
    if dialect.family not in FAMILIES or dialect.corners not in CORNERS:
        raise ConfigError(
            f"run.json describes an unknown dialect: family {dialect.family!r}, "
            f"corners {dialect.corners!r}"
        )
    if not isinstance(dialect.keys, RecordKeys | None):
        raise ConfigError("run.json describes an unknown dialect: keys must be a table of keys")
    if dialect.family == "json" and dialect.keys is None:
        raise ConfigError("run.json describes an unknown dialect: family 'json' without keys")
    return dialect


def value_frame(dialect: Dialect, frame: CoordFrame) -> CoordFrame | None:
    """What the values of found records mean; None where they are pixels of the image already.

    `frame` is the run's; a dialect that declares its own keeps it.
    """
    if dialect.frame is not None:
        frame = frame_named(dialect.frame)
    elif dialect.coordinates == "pixel_int":
        if not dialect.decimals:
            return None
        frame = frame_named("pixels")
    if not dialect.decimals:
        return frame
    scale = 10**dialect.decimals
    return replace(frame, denominator=frame.denominator * scale, offset=frame.offset * scale)


__all__ = [
    "AUTO_DIALECT",
    "CORNERS",
    "DEFAULT_DIALECT",
    "DIALECTS",
    "FAMILIES",
    "FOREIGN_DIALECTS",
    "SPELLINGS",
    "Coordinates",
    "Corners",
    "Dialect",
    "Family",
    "FieldOrder",
    "dialect_from_json",
    "dialect_named",
    "known_dialects",
    "value_frame",
    "with_field_order",
]
