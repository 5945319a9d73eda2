"""The names that a JSON dialect gives to its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordKeys:
    """Keys of a JSON dialect, all of them compared exactly.

    `objects` is the key of the list of records in an object around it; None: the list stands bare.
    `name`, `box`, `poly` and `line` hold alternatives, the first of which writers use. `ignored`
    are keys that may stand in a record and are not read; any other is `unexpected_keys`. `several`:
    a geometry may hold a list of lists, each of which is an object of its own.
    """

    objects: str | None = None
    name: tuple[str, ...] = ("label",)
    box: tuple[str, ...] = ("bbox_2d",)
    poly: tuple[str, ...] = ()
    line: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    several: bool = False

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RecordKeys:
        """The keys that a run.json describes; TypeError for unknown ones and for wrong types."""
        values = dict(raw)
        for field in ("name", "box", "poly", "line", "ignored"):
            if field not in values:
                continue
            names = values[field]
            if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
                raise TypeError(f"keys.{field} must be a list of strings")
            values[field] = tuple(names)
        if not isinstance(values.get("objects"), str | None):
            raise TypeError("keys.objects must be a string")
        return cls(**values)


__all__ = ["RecordKeys"]
