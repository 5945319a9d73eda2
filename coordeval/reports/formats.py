"""Numbers as people read them: percentages, points, and "-" where there is no value.

A zero has no sign, however small the number was: -0.00 would be read as a loss.
"""

from __future__ import annotations

BAR_CELLS = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number; integers without decimals."""
    if value is None:
        return "-"
    if isinstance(value, int) or (float(value).is_integer() and digits == 0):
        return f"{int(value):,}"
    return f"{value:z.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; what rounds to 0 has none."""
    text = f"{value:+,.{digits}f}"
    return text if any(digit in text for digit in "123456789") else text[1:]


def percent(value: float | None) -> str:
    """A share 0..1 as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:z.1f} %"


def points(value: float | None) -> str:
    """An AP or AR 0..1 in points, as COCO tables print it."""
    return "-" if value is None else f"{100 * value:z.1f}"


def bar(value: float, largest: float, cells: int = BAR_CELLS) -> str:
    """A horizontal bar whose full length stands for `largest`; empty where that is 0."""
    if largest <= 0 or value <= 0:
        return ""
    eighths = max(1, round(8 * cells * value / largest))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


__all__ = ["bar", "number", "percent", "points", "signed"]
