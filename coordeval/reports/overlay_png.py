"""An overlay as a raster picture, by Pillow."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from coordeval.reports.overlay_font import base_font, fitting
from coordeval.reports.overlay_styles import CASING, DASH_UNIT, STYLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.reports.overlay_scene import Scene, Shape

PAPER = (250, 250, 248)
INK = (32, 33, 36)
CANVAS = (222, 223, 226)
"""The plain picture where the image is not there."""
RIM = (45, 45, 48)
_SMOOTH = 2
"""Outlines are drawn this many times larger and reduced, which smooths slanted edges."""


def draw_png(scene: Scene, picture: Image.Image | None) -> Image.Image:
    """The whole overlay as an RGB image; `picture` None gives a plain canvas."""
    page = Image.new("RGB", (scene.width, scene.total_height), PAPER)
    page.paste(_background(scene, picture), (0, 0))
    fills = ImageDraw.Draw(page, "RGBA")
    for shape in scene.shapes:
        style = STYLES[shape.category]
        if style.fill and shape.closed:
            fills.polygon(shape.points, fill=(*rgb(style.colour), round(255 * style.fill)))
    # What a fill drew below the picture is covered by the legend's paper again.
    page.paste(PAPER, (0, scene.height, scene.width, scene.total_height))
    layer = Image.new("RGBA", (scene.width * _SMOOTH, scene.height * _SMOOTH), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for shape in scene.shapes:
        _draw_shape(draw, shape, scene.line_px * _SMOOTH, _SMOOTH)
    layer = layer.resize((scene.width, scene.height), Image.Resampling.LANCZOS)
    page.paste(layer, (0, 0), layer)
    _draw_texts(page, scene)
    return page


def _background(scene: Scene, picture: Image.Image | None) -> Image.Image:
    if picture is None:
        return Image.new("RGB", (scene.width, scene.height), CANVAS)
    # Enlarged pixels stay pixels: nothing is shown that the model could not see.
    how = Image.Resampling.NEAREST if scene.scale >= 4 else Image.Resampling.LANCZOS
    return picture.resize((scene.width, scene.height), how)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Shape, line_px: float, factor: int) -> None:
    style = STYLES[shape.category]
    points = [(x * factor, y * factor) for x, y in shape.points]
    path = [*points, points[0]] if shape.closed else points
    width = line_px * style.weight
    for colour, wide in ((RIM, width + CASING * line_px), (rgb(style.colour), width)):
        for piece in _dashes(path, [length * line_px * DASH_UNIT for length in style.dash]):
            draw.line(piece, fill=colour, width=max(1, round(wide)), joint="curve")


def _dashes(
    path: Sequence[tuple[float, float]], pattern: Sequence[float]
) -> Iterator[list[tuple[float, float]]]:
    """The drawn pieces of a path; without a pattern, the path itself."""
    if not pattern:
        yield list(path)
        return
    place, rest, drawn = 0, pattern[0], True
    piece = [path[0]]
    for (x1, y1), (x2, y2) in pairwise(path):
        length = math.hypot(x2 - x1, y2 - y1)
        gone = 0.0
        while length - gone > rest:
            gone += rest
            point = (x1 + (x2 - x1) * gone / length, y1 + (y2 - y1) * gone / length)
            if drawn:
                yield [*piece, point]
            piece, drawn = [point], not drawn
            place = (place + 1) % len(pattern)
            rest = pattern[place]
        rest -= length - gone
        piece.append((x2, y2))
    if drawn and len(piece) > 1:
        yield piece


def _draw_texts(page: Image.Image, scene: Scene) -> None:
    draw = ImageDraw.Draw(page, "RGBA")
    for label in scene.labels:
        colour = rgb(STYLES[label.category].colour)
        draw.rounded_rectangle(
            (label.x, label.y, label.x + label.width, label.y + label.height),
            radius=scene.font_px * 0.25,
            fill=(*colour, 235),
            outline=(0, 0, 0, 140),
        )
        place = (label.x + scene.font_px * 0.35, label.y + label.height / 2)
        draw.text(place, label.text, fill=text_on(colour), font=label.font, anchor="lm")
    _draw_below(draw, scene)


def _draw_below(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    pad = scene.font_px * 0.7
    font: Any = fitting(scene.title, scene.font_px, 400)[1]
    draw.text((pad, scene.title_y), scene.title, fill=INK, font=font)
    for entry in scene.legend:
        style = STYLES[entry.category]
        middle = entry.y + scene.font_px * 0.62
        path = [(entry.x, middle), (entry.x + scene.font_px * 2.1, middle)]
        width = scene.line_px * style.weight
        for colour, wide in ((RIM, width + CASING * scene.line_px), (rgb(style.colour), width)):
            for piece in _dashes(
                path, [length * scene.line_px * DASH_UNIT for length in style.dash]
            ):
                draw.line(piece, fill=colour, width=max(2, round(wide)))
        where = (entry.x + scene.font_px * 2.6, entry.y)
        draw.text(where, entry.text, fill=INK, font=base_font(scene.font_px))
    for line, y in scene.notes:
        shown, font = fitting(line, scene.font_px, 400)
        draw.text((pad, y), shown, fill=(110, 60, 0), font=font)


def rgb(colour: str) -> tuple[int, int, int]:
    """A colour #RRGGBB as numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def text_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever contrasts more (relative luminance of WCAG 2)."""
    linear = [
        (c / 255) / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in colour
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else (255, 255, 255)


__all__ = ["CANVAS", "INK", "PAPER", "RIM", "draw_png", "rgb", "text_on"]
