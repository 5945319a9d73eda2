"""A metric's value with its unit, as the page shows it."""

from __future__ import annotations

from coordeval.metrics.catalogue import describe
from coordeval.reports.formats import number, percent, points

_PLAIN_RATIOS = ("f1/", "f1_loc/", "f1_dedup/")
_PLAIN_LEAVES = ("/f1_best", "/f1_sample")
_POINT_FAMILIES = ("coco/", "coco_dedup/", "coco_segm/", "lvis/A")


def shown_value(key: str, value: float | None) -> str:
    """Rates as percentages, AP and AR in points, F1 plain, counts whole; "-" for no value."""
    if value is None:
        return "-"
    if key.startswith(_POINT_FAMILIES):
        return points(value)
    info = describe(key)
    is_plain = key.startswith(_PLAIN_RATIOS) or key.endswith(_PLAIN_LEAVES)
    if info is not None and info.unit == "ratio" and not is_plain:
        return percent(value)
    if float(value).is_integer() and abs(value) >= 1 and not is_plain:
        return number(int(value))
    if isinstance(value, int) or abs(value) >= 100:
        return number(round(value))
    return number(value, 2 if info is not None and info.unit != "ratio" else 3)


def shown_change(key: str, change: float | None) -> str:
    """A difference of two values in the same unit, always with its sign; pp: percentage points."""
    if change is None:
        return "-"
    size = shown_value(key, abs(change))
    shows = any(digit in size for digit in "123456789")
    sign = "±" if not shows else "−" if change < 0 else "+"
    # A difference of two percentages is no percentage.
    return sign + (size.removesuffix("%") + "pp" if size.endswith("%") else size)


def unit_name(key: str) -> str:
    """The unit to write beside a value; empty where the value carries it."""
    if key.startswith(_POINT_FAMILIES):
        return "points"
    info = describe(key)
    return "" if info is None or info.unit == "ratio" else info.unit


__all__ = ["shown_change", "shown_value", "unit_name"]
