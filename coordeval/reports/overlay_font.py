"""Text on pictures: a font that is always there, and others for scripts that it lacks."""

from __future__ import annotations

from functools import cache
from typing import Any

from PIL import ImageFont

from coordeval.reports.printable import printable

# Names that Pillow looks up in the system's font folders; the first that is there serves.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "DejaVuSans.ttf",
)
_NO_CHARACTER = "\U0010fffe"


@cache
def base_font(size: int) -> Any:
    """Pillow's own outline font."""
    return ImageFont.load_default(size)


@cache
def _wide_fonts(size: int) -> tuple[Any, ...]:
    found = []
    for name in _WIDE_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@cache
def _has(font: Any, character: str) -> bool:
    missing = font.getmask(_NO_CHARACTER)
    mask = font.getmask(character)
    return bytes(mask) != bytes(missing) or mask.size != missing.size


def fitting(text: str, size: int, limit: int) -> tuple[str, Any]:
    """The text made safe and cut to `limit` characters, and a font that has all of it.

    Without such a font, characters that cannot be drawn are written as escapes.
    """
    safe = printable(text, limit=limit)
    for font in (base_font(size), *_wide_fonts(size)):
        if all(character == " " or _has(font, character) for character in set(safe)):
            return safe, font
    font = base_font(size)
    return "".join(c if c == " " or _has(font, c) else _escaped(c) for c in safe), font


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def text_width(text: str, font: Any) -> float:
    """Width in pixels."""
    return float(font.getlength(text))


__all__ = ["base_font", "fitting", "text_width"]
