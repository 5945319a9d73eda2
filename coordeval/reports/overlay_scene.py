"""What an overlay shows and where, in pixels of the picture: drawn alike as PNG and as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.reports.overlay_font import fitting, text_width
from coordeval.reports.overlay_styles import DRAW_ORDER, STYLES, category_of
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.exchange.scored_objects import ScoredImage, ScoredObject

MIN_LONG_SIDE = 900
"""Smaller images are enlarged by a whole factor, so that lines and labels are legible."""
MAX_LONG_SIDE = 1600
LABEL_LIMIT = 32
MAX_LABELS = 80
CROWDED = 24
_FAR = 4.0
"""Geometry is clipped this many image sides outside: a model may write any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One outline: its corners, whether it is closed, and for how many equal objects it stands."""

    category: str
    points: tuple[tuple[float, float], ...]
    closed: bool
    words: str
    count: int = 1

    @property
    def hull(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 around the corners."""
        xs, ys = [x for x, _ in self.points], [y for _, y in self.points]
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A chip with text; x, y is its top-left corner."""

    category: str
    text: str
    font: Any
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A swatch and words, placed below the picture; x, y is the top-left corner."""

    category: str
    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is drawn.

    The picture fills `width` x `height`; below it stand the title, the legend and the notes, down
    to `total_height`.
    """

    width: int
    height: int
    total_height: int
    scale: float
    line_px: float
    font_px: int
    title: str
    shapes: tuple[Shape, ...]
    labels: tuple[Label, ...]
    legend: tuple[LegendEntry, ...]
    notes: tuple[tuple[str, float], ...]
    title_y: float


def build_scene(
    image: ScoredImage,
    *,
    hidden: frozenset[str] = frozenset(),
    labels: bool = True,
    notes: Sequence[str] = (),
) -> Scene:
    """Lay out one image; categories in `hidden` are left out. Objects without a place are noted."""
    entry = image.entry
    scale = _scale(entry.width, entry.height)
    width, height = max(1, round(entry.width * scale)), max(1, round(entry.height * scale))
    line_px = min(6.0, max(1.6, max(width, height) / 420))
    objects = [*image.gt, *image.records]
    font_px = _font_px(max(width, height), len(objects))
    shapes = _shapes(objects, hidden, scale, width, height)
    chips: tuple[Label, ...] = ()
    said = list(notes)
    if labels:
        # A found object bears the name of its prediction; its own would say the same twice.
        named = [s for s in shapes if s.category != "gt" or "right" in hidden]
        chips = _place_labels(named[:MAX_LABELS], font_px, width, height)
        if len(named) > MAX_LABELS:
            left_out = counted(len(named) - MAX_LABELS, "more object is", "more objects are")
            said.append(f"labels of {left_out} left out")
    nowhere = sum(obj.box_px is None and category_of(obj) not in hidden for obj in objects)
    if nowhere:
        records = "records have" if nowhere > 1 else "record has"
        said.append(f"{nowhere} dropped {records} no readable place")
    pad = font_px * 0.7
    title_y = height + pad
    legend, below = _legend(objects, hidden, width, title_y + font_px * 1.7, font_px)
    lines: list[tuple[str, float]] = []
    for note in said:
        for line in _wrapped(note, font_px, width - 2 * pad):
            lines.append((line, below))
            below += font_px * 1.35
    return Scene(
        width=width,
        height=height,
        total_height=math.ceil(below + pad * 0.6),
        scale=scale,
        line_px=line_px,
        font_px=font_px,
        title=_title(image, font_px, width - 2 * pad),
        shapes=tuple(shapes),
        labels=chips,
        legend=legend,
        notes=tuple(lines),
        title_y=title_y,
    )


def _scale(width: int, height: int) -> float:
    longer = max(width, height)
    if longer < MIN_LONG_SIDE:
        # Very long thin images must not grow without bound along their long side.
        return float(min(math.ceil(MIN_LONG_SIDE / longer), max(1, MAX_LONG_SIDE // longer)))
    return min(1.0, MAX_LONG_SIDE / longer)


def _font_px(longer: int, num_objects: int) -> int:
    """Larger on larger pictures, smaller where many labels must share the room."""
    size = 10 + longer / 160
    return round(max(12.0, size * (0.8 if num_objects > CROWDED else 1.0)))


def _shapes(
    objects: Iterable[ScoredObject],
    hidden: frozenset[str],
    scale: float,
    width: int,
    height: int,
) -> list[Shape]:
    """Outlines in drawing order; objects with equal category, place and words become one."""
    counted: dict[tuple[str, tuple[tuple[float, float], ...], bool, str], int] = {}
    for obj in objects:
        category = category_of(obj)
        if category in hidden or obj.box_px is None:
            continue
        if obj.points_px is not None:
            flat, closed = obj.points_px, obj.kind == "poly"
        else:
            x1, y1, x2, y2 = obj.box_px
            flat, closed = (x1, y1, x2, y1, x2, y2, x1, y2), True
        points = tuple(
            (_near(x * scale, width), _near(y * scale, height))
            for x, y in zip(flat[0::2], flat[1::2], strict=True)
        )
        key = (category, points, closed, _words(obj))
        counted[key] = counted.get(key, 0) + 1
    shapes = [
        Shape(category=category, points=points, closed=closed, words=words, count=count)
        for (category, points, closed, words), count in counted.items()
    ]
    return sorted(shapes, key=lambda shape: DRAW_ORDER.index(shape.category))


def _near(value: float, side: int) -> float:
    return min(max(value, -_FAR * side), (1 + _FAR) * side)


def _words(obj: ScoredObject) -> str:
    words = obj.desc or "?"
    if obj.verdict == "dropped" and obj.reason is not None:
        return f"{words}: {obj.reason}"
    return f"{words} ({obj.copy} copy)" if category_of(obj) == "duplicate" else words


def _place_labels(
    shapes: Sequence[Shape], font_px: int, width: int, height: int
) -> tuple[Label, ...]:
    """Chips at the corners of their outlines, each where it covers least of earlier chips."""
    placed: list[Label] = []
    for shape in shapes:
        words = shape.words if shape.count == 1 else f"{shape.words} x {shape.count}"
        text, font = fitting(words, font_px, LABEL_LIMIT)
        wide, tall = text_width(text, font) + font_px * 0.7, font_px * 1.35
        x1, y1, x2, y2 = shape.hull
        candidates = (
            (x1, y1 - tall),
            (x1, y1),
            (x2 - wide, y1 - tall),
            (x2 - wide, y2),
            (x1, y2),
            (x1, y2 - tall),
            (x2 - wide, y2 - tall),
            (x2, y1),
            (x1, y1 + tall),
            (x1, y1 - 2 * tall),
        )
        spots = [
            (
                min(max(x, 0.0), max(0.0, width - wide)),
                min(max(y, 0.0), max(0.0, height - tall)),
            )
            for x, y in candidates
        ]
        costs = [
            _overlap(spot, wide, tall, placed) + 0.001 * rank for rank, spot in enumerate(spots)
        ]
        x, y = spots[costs.index(min(costs))]
        placed.append(
            Label(category=shape.category, text=text, font=font, x=x, y=y, width=wide, height=tall)
        )
    return tuple(placed)


def _overlap(spot: tuple[float, float], wide: float, tall: float, placed: Sequence[Label]) -> float:
    x, y = spot
    total = 0.0
    for other in placed:
        across = min(x + wide, other.x + other.width) - max(x, other.x)
        down = min(y + tall, other.y + other.height) - max(y, other.y)
        if across > 0 and down > 0:
            total += across * down
    return total


def _legend(
    objects: Sequence[ScoredObject],
    hidden: frozenset[str],
    width: int,
    top: float,
    font_px: int,
) -> tuple[tuple[LegendEntry, ...], float]:
    """Entries for the categories that occur, in rows; returns the height they end at, too."""
    counts: dict[str, int] = {}
    for obj in objects:
        category = category_of(obj)
        counts[category] = counts.get(category, 0) + 1
    entries = []
    pad = font_px * 0.7
    x, y = pad, top
    for category, style in STYLES.items():
        if category in hidden or not counts.get(category):
            continue
        text, font = fitting(f"{style.words}: {counts[category]}", font_px, 60)
        wide = font_px * 2.6 + text_width(text, font) + pad * 1.6
        if x > pad and x + wide > width:
            x, y = pad, y + font_px * 1.6
        entries.append(LegendEntry(category=category, text=text, x=x, y=y))
        x += wide
    return tuple(entries), (y + font_px * 1.7 if entries else top)


def _title(image: ScoredImage, font_px: int, room: float) -> str:
    entry = image.entry
    facts = f"  {entry.width} x {entry.height}"
    if entry.failed:
        facts += ", engine error"
    elif entry.finish_reason is not None:
        facts += f", finish: {entry.finish_reason}"
    name = printable(entry.id)
    for keep in range(len(name), 0, -1):
        shown = name if keep == len(name) else "…" + name[-keep:]
        text, font = fitting(shown + facts, font_px, 400)
        if text_width(text, font) <= room:
            return text
    return fitting(name[-8:], font_px, 8)[0]


def _wrapped(text: str, font_px: int, room: float) -> list[str]:
    lines = [""]
    for word in printable(text, limit=400).split(" "):
        candidate = f"{lines[-1]} {word}".strip()
        shown, font = fitting(candidate, font_px, 400)
        if lines[-1] and text_width(shown, font) > room:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines


__all__ = ["Label", "LegendEntry", "Scene", "Shape", "build_scene"]
