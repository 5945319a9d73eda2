"""What a user asks of decode-time control, as plain values that run.json and engines pass on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from coordeval.errors import ConfigError
from coordeval.records import GEOMETRY_KINDS, GeometryKind

ConstraintMode = Literal["none", "coords", "grammar"]
GuardMode = Literal["off", "mark", "stop"]
Separators = Literal["spaced", "compact"]

CONSTRAINT_MODES: tuple[ConstraintMode, ...] = ("none", "coords", "grammar")
GUARD_MODES: tuple[GuardMode, ...] = ("off", "mark", "stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintSettings:
    """What the model may write.

    `coords` holds only inside geometry lists: coordinate tokens and the separators that the arity
    allows. `grammar` is the whole answer in one dialect: `geometries` that may occur, an open
    description or one of `class_names`, at most `max_objects` records, at most `max_points`
    points in a `poly` or `line`, `separators` as trained, and `sorted_objects` (y1, then x1 of
    the hull, as training data is sorted). `ordered` keeps x2 > x1, y2 > y1 and polygons with an
    area, in both modes; None is on under `grammar` and off under `coords`.
    Raises ConfigError for values that contradict one another.
    """

    mode: ConstraintMode = "none"
    geometries: tuple[GeometryKind, ...] = GEOMETRY_KINDS
    class_names: tuple[str, ...] | None = None
    max_objects: int | None = None
    max_points: int | None = None
    separators: Separators = "spaced"
    ordered: bool | None = None
    sorted_objects: bool = False

    def __post_init__(self) -> None:
        if self.mode not in CONSTRAINT_MODES:
            raise ConfigError(f"constrain must be one of {', '.join(CONSTRAINT_MODES)}")
        if not self.geometries or set(self.geometries) - set(GEOMETRY_KINDS):
            raise ConfigError(f"geometries must be some of {', '.join(GEOMETRY_KINDS)}")
        if self.class_names is not None and not self.class_names:
            raise ConfigError("the class list is empty: leave it out, or name at least one class")
        for name in self.class_names or ():
            if not name.strip():
                raise ConfigError("the class list holds a blank name")
        if self.max_objects is not None and self.max_objects < 1:
            raise ConfigError("max-objects must be at least 1")
        least = 3 if "poly" in self.geometries else 2
        if self.max_points is not None and self.max_points < least:
            raise ConfigError(f"max-points must be at least {least}")
        if self.mode != "grammar":
            for name, given in (
                ("a class list", self.class_names is not None),
                ("max-objects", self.max_objects is not None),
                ("sorted-objects", self.sorted_objects),
                ("separators compact", self.separators == "compact"),
            ):
                if given:
                    raise ConfigError(f"{name} needs --constrain grammar")

    @property
    def orders(self) -> bool:
        """True where boxes are kept ordered and polygons with an area."""
        return self.mode == "grammar" if self.ordered is None else self.ordered

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        raw = asdict(self)
        raw["geometries"] = list(self.geometries)
        raw["class_names"] = None if self.class_names is None else list(self.class_names)
        return raw | {"ordered": self.orders}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ConstraintSettings:
        """The settings that `to_json` wrote."""
        names = raw.get("class_names")
        fields = raw | {
            "geometries": tuple(raw.get("geometries", GEOMETRY_KINDS)),
            "class_names": None if names is None else tuple(names),
        }
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """When a rollout counts as looping; `mark` notes it, `stop` ends the rollout there.

    `exact_repeats`: so many writings of one record anywhere. `block_repeats`: so many copies, back
    to back, of a block of two or more records. `near_repeats`: so many records in a row that each
    repeat the one before (same description, IoU >= `near_iou`). `cycle_repeats`: so many copies,
    back to back, of a cycle of tokens outside complete records, `cycle_tokens` tokens or more in
    all. Raises ConfigError for thresholds that honest lists would meet.
    """

    mode: GuardMode = "off"
    exact_repeats: int = 4
    block_repeats: int = 3
    near_repeats: int = 4
    near_iou: float = 0.95
    cycle_repeats: int = 8
    cycle_tokens: int = 32

    def __post_init__(self) -> None:
        if self.mode not in GUARD_MODES:
            raise ConfigError(f"loop-guard must be one of {', '.join(GUARD_MODES)}")
        for name in ("exact_repeats", "block_repeats", "near_repeats"):
            if getattr(self, name) < 2:
                raise ConfigError(f"guard {name.replace('_', '-')} must be at least 2")
        if self.cycle_repeats < 3:
            raise ConfigError("guard cycle-repeats must be at least 3: words come in twos")
        if self.cycle_tokens < 2:
            raise ConfigError("guard cycle-tokens must be at least 2")
        if not (math.isfinite(self.near_iou) and 0 < self.near_iou <= 1):
            raise ConfigError("guard near-iou must be above 0 and at most 1")

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> GuardSettings:
        """The settings that `to_json` wrote."""
        return cls(**raw)


__all__ = [
    "CONSTRAINT_MODES",
    "GUARD_MODES",
    "ConstraintMode",
    "ConstraintSettings",
    "GuardMode",
    "GuardSettings",
    "Separators",
]
