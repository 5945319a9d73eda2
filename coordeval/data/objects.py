"""One annotated object between its JSON form and `GroundTruthObject`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from coordeval.coords import COORD_TOKEN_RE, MAX_BIN, CoordFrame
from coordeval.errors import DataError
from coordeval.quoting import shown
from coordeval.records import GEOMETRY_KINDS, GeometryKind, GroundTruthObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_VALUES: dict[GeometryKind, int] = {"bbox_2d": 4, "poly": 6, "line": 4}
MAX_PX = 1e12
"""No coordinate is farther from its image's corner: areas and overlaps stay far from overflow."""


def read_object(
    raw: Any, *, width: int, height: int, frame: CoordFrame, bins: bool
) -> GroundTruthObject:
    """Check one entry of `objects` and bring its geometry to pixels.

    Numbers are pixels, or bins where `bins`; strings `<|coord_k|>` are bins in any case. Zero-area
    and inverted boxes are accepted here (validation reports them). Raises DataError that says
    what is wrong, without the place.
    """
    if not isinstance(raw, dict):
        raise DataError(f"an object must be a JSON object, not {type(raw).__name__}")
    desc = raw.get("desc")
    if not isinstance(desc, str) or not desc.strip():
        raise DataError(f"'desc' must be a non-blank string{_other_keys(raw, 'desc')}")
    kinds = [kind for kind in GEOMETRY_KINDS if kind in raw]
    if len(kinds) != 1:
        found = ", ".join(kinds) or f"none{_other_keys(raw, *GEOMETRY_KINDS)}"
        raise DataError(f"exactly one of bbox_2d, poly, line is needed (found: {found})")
    kind = kinds[0]
    values_px = _geometry_px(raw[kind], kind, width=width, height=height, frame=frame, bins=bins)
    area = _optional_number(raw, "area")
    category_id = raw.get("category_id")
    if category_id is not None and (
        isinstance(category_id, bool) or not isinstance(category_id, int)
    ):
        raise DataError("'category_id' must be an integer")
    iscrowd = raw.get("iscrowd")
    if iscrowd not in (None, 0, 1):
        raise DataError("'iscrowd' must be 0 or 1")
    return GroundTruthObject(desc, kind, values_px, bool(iscrowd), area, category_id)


def _other_keys(raw: Mapping[str, Any], *wanted: str) -> str:
    """The keys that stand there where a wanted one is absent: it may have another name."""
    if not raw or any(key in raw for key in wanted):
        return ""
    return f"; its keys are {shown(', '.join(map(str, raw)))}"


def _optional_number(raw: Mapping[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise DataError(f"{key!r} must be a finite number")
    return float(value)


def _is_finite(value: float) -> bool:
    """False also for whole numbers that no float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _geometry_px(
    raw: Any, kind: GeometryKind, *, width: int, height: int, frame: CoordFrame, bins: bool
) -> tuple[float, ...]:
    if not isinstance(raw, list):
        raise DataError(f"{kind!r} must be a flat list of coordinates")
    count = len(raw)
    if kind == "bbox_2d" and count != 4:
        raise DataError(f"'bbox_2d' needs 4 coordinates, found {count}")
    if count < MIN_VALUES[kind] or count % 2:
        least = MIN_VALUES[kind]
        raise DataError(f"{kind!r} needs an even number of coordinates, {least} or more: {count}")
    if all(isinstance(value, str) for value in raw):
        return _from_bins([_token_bin(value, kind) for value in raw], width, height, frame)
    for value in raw:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{kind!r} must hold only numbers or only coordinate tokens: {value!r}")
        if not -MAX_PX <= value <= MAX_PX:
            raise DataError(f"{kind!r} holds a number that is not finite or beyond {MAX_PX:.0e}")
        if bins and not (0 <= value <= MAX_BIN and value == int(value)):
            raise DataError(f"{kind!r} holds {value!r}, which is not a bin 0..{MAX_BIN}")
    if bins:
        return _from_bins(raw, width, height, frame)
    return tuple(float(value) for value in raw)


def _token_bin(text: str, kind: GeometryKind) -> int:
    match = COORD_TOKEN_RE.fullmatch(text)
    if match is None:
        raise DataError(f"{kind!r} holds {text!r}, which is not a token <|coord_0|>..<|coord_999|>")
    return int(match.group(1))


def _from_bins(
    bins: Sequence[float], width: int, height: int, frame: CoordFrame
) -> tuple[float, ...]:
    return tuple(frame.to_pixels(bins, width, height).tolist())


def write_object(obj: GroundTruthObject) -> dict[str, Any]:
    """The JSON form of an object, in pixels; optional keys only where they say something."""
    out: dict[str, Any] = {"desc": obj.desc, obj.kind: list(obj.values_px)}
    if obj.iscrowd:
        out["iscrowd"] = 1
    if obj.area is not None:
        out["area"] = obj.area
    if obj.category_id is not None:
        out["category_id"] = obj.category_id
    return out


def hull_px(obj: GroundTruthObject) -> tuple[float, float, float, float]:
    """The axis-aligned box x1, y1, x2, y2 around an object's geometry."""
    if obj.kind == "bbox_2d":
        x1, y1, x2, y2 = obj.values_px
        return x1, y1, x2, y2
    xs, ys = obj.values_px[0::2], obj.values_px[1::2]
    return min(xs), min(ys), max(xs), max(ys)


__all__ = ["MAX_PX", "MIN_VALUES", "hull_px", "read_object", "write_object"]
