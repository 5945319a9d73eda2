"""An overlay as vectors: one SVG that holds its picture, with every text escaped."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from coordeval.reports.overlay_png import CANVAS, INK, PAPER, RIM, rgb, text_on
from coordeval.reports.overlay_styles import CASING, DASH_UNIT, STYLES
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from coordeval.reports.overlay_scene import Scene, Shape

MAX_PNG_PIXELS = 100_000
"""Larger pictures are embedded as JPEG, which keeps the file small."""
_NOT_XML = re.compile("[\ufffe\uffff]")


def draw_svg(scene: Scene, picture: Image.Image | None) -> str:
    """The whole overlay as one SVG document; `picture` None gives a plain canvas."""
    width, height = scene.width, scene.total_height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="{scene.font_px}" role="img">'
    )
    lines = [
        head,
        f"<title>{_text(scene.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="{_hex(PAPER)}"/>',
        _picture(scene, picture),
        f'<clipPath id="picture"><rect width="{width}" height="{scene.height}"/></clipPath>',
        '<g clip-path="url(#picture)" stroke-linejoin="round">',
        *(_shape(shape, scene) for shape in scene.shapes),
        "</g>",
        *_labels(scene),
        *_below(scene),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", printable(text)))


def _hex(colour: tuple[int, int, int]) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"


def _picture(scene: Scene, picture: Image.Image | None) -> str:
    size = f'width="{scene.width}" height="{scene.height}"'
    if picture is None:
        return f'<rect {size} fill="{_hex(CANVAS)}"/>'
    buffer = io.BytesIO()
    kind = "png" if picture.width * picture.height <= MAX_PNG_PIXELS else "jpeg"
    if kind == "png":
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    how = ' style="image-rendering: pixelated"' if scene.scale >= 4 else ""
    return f'<image {size} preserveAspectRatio="none"{how} href="data:image/{kind};base64,{data}"/>'


def _shape(shape: Shape, scene: Scene) -> str:
    style = STYLES[shape.category]
    line = scene.line_px
    tag = "polygon" if shape.closed else "polyline"
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
    words = shape.words if shape.count == 1 else f"{shape.words} x {shape.count}"
    dash = _dash_attribute(style.dash, line)
    fill = f'fill="{style.colour}" fill-opacity="{style.fill:g}"' if shape.closed else 'fill="none"'
    width = line * style.weight
    return (
        f"<g class={quoteattr(shape.category)}>"
        f"<title>{_text(f'{style.words}: {words}')}</title>"
        f'<{tag} points="{points}" fill="none" stroke="{_hex(RIM)}" '
        f'stroke-width="{width + CASING * line:.2f}"{dash}/>'
        f'<{tag} points="{points}" {fill} stroke="{style.colour}" '
        f'stroke-width="{width:.2f}"{dash}/></g>'
    )


def _dash_attribute(pattern: tuple[float, ...], line_px: float) -> str:
    if not pattern:
        return ""
    lengths = " ".join(f"{length * line_px * DASH_UNIT:.2f}" for length in pattern)
    return f' stroke-dasharray="{lengths}"'


def _labels(scene: Scene) -> Iterator[str]:
    for label in scene.labels:
        colour = STYLES[label.category].colour
        inner = label.width - scene.font_px * 0.7
        yield (
            f'<rect x="{label.x:.2f}" y="{label.y:.2f}" width="{label.width:.2f}" '
            f'height="{label.height:.2f}" rx="{scene.font_px * 0.25:.2f}" fill="{colour}" '
            f'fill-opacity="0.92" stroke="#000" stroke-opacity="0.55"/>'
            f'<text x="{label.x + scene.font_px * 0.35:.2f}" '
            f'y="{label.y + label.height / 2:.2f}" dominant-baseline="central" '
            f'textLength="{inner:.2f}" lengthAdjust="spacingAndGlyphs" '
            f'fill="{_hex(text_on(rgb(colour)))}">{_text(label.text)}</text>'
        )


def _below(scene: Scene) -> Iterator[str]:
    pad = scene.font_px * 0.7
    yield (
        f'<text x="{pad:.2f}" y="{scene.title_y + scene.font_px * 0.9:.2f}" '
        f'fill="{_hex(INK)}">{_text(scene.title)}</text>'
    )
    for entry in scene.legend:
        style = STYLES[entry.category]
        middle = entry.y + scene.font_px * 0.62
        width = scene.line_px * style.weight
        wide = width + CASING * scene.line_px
        dash = _dash_attribute(style.dash, scene.line_px)
        start = f'x1="{entry.x:.2f}" y1="{middle:.2f}"'
        line = f'{start} x2="{entry.x + scene.font_px * 2.1:.2f}" y2="{middle:.2f}"'
        yield (
            f'<line {line} stroke="{_hex(RIM)}" stroke-width="{wide:.2f}"'
            f'{dash}/><line {line} stroke="{style.colour}" stroke-width="{width:.2f}"{dash}/>'
            f'<text x="{entry.x + scene.font_px * 2.6:.2f}" y="{middle:.2f}" '
            f'dominant-baseline="central" fill="{_hex(INK)}">{_text(entry.text)}</text>'
        )
    for note, y in scene.notes:
        yield (
            f'<text x="{pad:.2f}" y="{y + scene.font_px * 0.9:.2f}" fill="#6e3c00">'
            f"{_text(note)}</text>"
        )


__all__ = ["draw_svg"]
