"""Synthetic scenes: coloured shapes on grey, seeded, with exact boxes or polygons.

A class name is a colour and a shape (`"red circle"`). Boxes follow the `coordexp` frame: a box
holds the indices of its first and its last pixel, so bin 0 is the first pixel and bin 999 the
last one, and a shape that touches the border reaches `width - 1`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from coordeval.data.objects import write_object
from coordeval.errors import ConfigError, DataError
from coordeval.jsonl import dump_line
from coordeval.records import GroundTruthObject, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
    "purple": (150, 50, 190),
    "orange": (240, 140, 30),
    "cyan": (40, 200, 210),
    "pink": (245, 130, 190),
}

# Corners as fractions of the box, clockwise from the top; each outline touches all four sides.
OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": tuple(
        (0.5 + 0.5 * math.sin(math.tau * k / 16), 0.5 - 0.5 * math.cos(math.tau * k / 16))
        for k in range(16)
    ),
    "square": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
    "triangle": ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0)),
    "diamond": ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)),
    "hexagon": ((0.25, 0.0), (0.75, 0.0), (1.0, 0.5), (0.75, 1.0), (0.25, 1.0), (0.0, 0.5)),
    "arrow": ((0.5, 0.0), (1.0, 0.5), (0.7, 0.5), (0.7, 1.0), (0.3, 1.0), (0.3, 0.5), (0.0, 0.5)),
}

_PLACEMENT_TRIES = 200
_MIN_SIDE_PX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSpec:
    """What scenes look like; every scene is a function of the spec and one seed.

    `sides_px`: width and height are drawn from these. `classes`: "<colour> <shape>" names.
    `min_objects..max_objects` per scene (fewer where they do not fit). `min_size..max_size`: an
    object's width as a fraction of the image's shorter side; its height is the width times up to
    `max_aspect`, or divided by it. `max_overlap`: largest intersection over the smaller area of
    two objects; 0 keeps a gap of 2 px. `empty_rate`: share of scenes without objects.
    `crowd_rate`: share of scenes with, in addition, a patch of `crowd_objects` small objects of
    one class side by side; with `crowd_as_region` the patch is one crowd annotation instead of
    single objects. `polygons`: outlines (`poly`) instead of boxes. `clutter`: unlabelled dark
    strokes. `noise`: amplitude of the pixel noise. Raises ConfigError where this makes no sense.
    """

    name: str = "scenes"
    sides_px: tuple[int, ...] = (64,)
    classes: tuple[str, ...] = ("red circle", "green square", "blue triangle", "yellow diamond")
    min_objects: int = 1
    max_objects: int = 4
    min_size: float = 0.18
    max_size: float = 0.42
    max_aspect: float = 1.4
    max_overlap: float = 0.0
    empty_rate: float = 0.0
    crowd_rate: float = 0.0
    crowd_objects: int = 9
    crowd_as_region: bool = False
    polygons: bool = False
    clutter: int = 0
    noise: int = 0

    def __post_init__(self) -> None:
        for fault, text in self._faults():
            if fault:
                raise ConfigError(f"scene spec {self.name!r}: {text}")
        for name in self.classes:
            split_class(name)

    def _faults(self) -> list[tuple[bool, str]]:
        rates = (self.empty_rate, self.crowd_rate, self.max_overlap)
        return [
            (not self.name or "/" in self.name, "name must be a plain file name"),
            (not self.sides_px or min(self.sides_px) < 16, "sides_px must be at least 16 pixels"),
            (not self.classes, "classes must name at least one class"),
            (not 0 <= self.min_objects <= self.max_objects, "0 <= min_objects <= max_objects"),
            (not 0 < self.min_size <= self.max_size <= 1, "0 < min_size <= max_size <= 1"),
            (self.max_aspect < 1, "max_aspect must be at least 1"),
            (not all(0 <= rate <= 1 for rate in rates), "rates and max_overlap lie in 0..1"),
            (self.crowd_objects < 2, "crowd_objects must be at least 2"),
            (self.clutter < 0 or not 0 <= self.noise <= 64, "clutter >= 0 and noise in 0..64"),
        ]


class _BoxPx(NamedTuple):
    """First and last pixel of a shape along x and y."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def area(self) -> int:
        return (self.x2 - self.x1) * (self.y2 - self.y1)


def split_class(name: str) -> tuple[str, str]:
    """Colour and shape of a class name; ConfigError lists the known ones."""
    colour, _, shape = name.partition(" ")
    if colour not in COLOURS or shape not in OUTLINES:
        raise ConfigError(
            f"unknown scene class {name!r}: use one of {', '.join(COLOURS)} "
            f"with one of {', '.join(OUTLINES)}"
        )
    return colour, shape


def make_scene(spec: SceneSpec, seed: int) -> tuple[Image.Image, Sample]:
    """Draw one scene: an RGB image and its ground truth in pixels; the same seed, the same scene.

    Objects come in drawing order (later ones lie on top). The sample's `image` is empty: nothing
    is written. An empty scene has no objects.
    """
    rng = random.Random(seed)
    width, height = rng.choice(spec.sides_px), rng.choice(spec.sides_px)
    image = _background(spec, rng, width, height)
    draw = ImageDraw.Draw(image)
    _draw_clutter(draw, spec.clutter, rng, width, height)
    kind = "empty" if rng.random() < spec.empty_rate else "plain"
    objects: list[GroundTruthObject] = []
    taken: list[_BoxPx] = []
    if kind == "plain" and rng.random() < spec.crowd_rate:
        kind = "crowd"
        objects += _draw_crowd(draw, spec, rng, width, height, taken)
    if kind != "empty":
        for _ in range(rng.randint(spec.min_objects, spec.max_objects)):
            box = _place(spec, rng, width, height, taken)
            if box is None:
                break
            taken.append(box)
            objects.append(_draw_object(draw, rng.choice(spec.classes), box, spec, rng))
    sample = Sample(
        id=f"{spec.name}-{seed}",
        image="",
        width=width,
        height=height,
        objects=tuple(objects),
        metadata={"scene": kind, "seed": seed},
    )
    return image, sample


def write_scenes(spec: SceneSpec, out_dir: Path, count: int, seed: int) -> Path:
    """Write `count` scenes as `<name>.jsonl` and `images/<name>-0000.png`, and return the JSONL.

    Scene i is `make_scene(spec, seed * 1_000_000 + i)` with id `0000`, `0001`, ... and `image_id`
    i + 1; sizes and geometries are pixels. Same arguments, same bytes. `count` 0 writes an empty
    file. Raises DataError where the folder cannot be written.
    """
    out_dir = Path(out_dir)
    lines: list[bytes] = []
    path = out_dir / f"{spec.name}.jsonl"
    try:
        (out_dir / "images").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, sample = make_scene(spec, seed * 1_000_000 + index)
            relative = f"images/{spec.name}-{index:04d}.png"
            image.save(out_dir / relative, format="PNG", optimize=False, compress_level=9)
            lines.append(dump_line(_line(sample, index, relative)))
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise DataError(f"{out_dir}: cannot be written: {error.strerror or error}") from None
    return path


def _line(sample: Sample, index: int, image: str) -> dict[str, Any]:
    return {
        "id": f"{index:04d}",
        "image": image,
        "image_id": index + 1,
        "width": sample.width,
        "height": sample.height,
        "objects": [write_object(obj) for obj in sample.objects],
        "metadata": sample.metadata,
    }


def _background(spec: SceneSpec, rng: random.Random, width: int, height: int) -> Image.Image:
    grey = rng.randint(118, 138)
    pixels = np.full((height, width, 3), grey, dtype=np.int16)
    if spec.noise:
        noise = np.random.default_rng(rng.getrandbits(64))
        pixels += noise.integers(-spec.noise, spec.noise + 1, size=pixels.shape, dtype=np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_clutter(
    draw: ImageDraw.ImageDraw, strokes: int, rng: random.Random, width: int, height: int
) -> None:
    for _ in range(strokes):
        x, y = rng.randrange(width), rng.randrange(height)
        length = rng.randint(2, max(3, min(width, height) // 6))
        angle = rng.uniform(0, math.tau)
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        grey = rng.randint(60, 100)
        draw.line([(x, y), end], fill=(grey, grey, grey), width=1)


def _place(
    spec: SceneSpec, rng: random.Random, width: int, height: int, taken: Sequence[_BoxPx]
) -> _BoxPx | None:
    """Find a free place for one object; None where there was none in 200 tries."""
    shorter = min(width, height)
    low = max(_MIN_SIDE_PX, int(spec.min_size * shorter))
    high = max(low, int(spec.max_size * shorter))
    for _ in range(_PLACEMENT_TRIES):
        w = rng.randint(low, high)
        ratio = math.exp(rng.uniform(-1, 1) * math.log(spec.max_aspect))
        h = min(high, max(low, round(w * ratio)))
        if w > width - 1 or h > height - 1:
            continue
        x, y = rng.randint(0, width - 1 - w), rng.randint(0, height - 1 - h)
        box = _BoxPx(x, y, x + w, y + h)
        if all(_may_overlap(box, other, spec.max_overlap) for other in taken):
            return box
    return None


def _may_overlap(a: _BoxPx, b: _BoxPx, max_overlap: float) -> bool:
    overlap_x = min(a.x2, b.x2) - max(a.x1, b.x1)
    overlap_y = min(a.y2, b.y2) - max(a.y1, b.y1)
    if max_overlap == 0:
        return overlap_x <= -2 or overlap_y <= -2
    if overlap_x <= 0 or overlap_y <= 0:
        return True
    return overlap_x * overlap_y <= max_overlap * min(a.area, b.area)


def _draw_crowd(
    draw: ImageDraw.ImageDraw,
    spec: SceneSpec,
    rng: random.Random,
    width: int,
    height: int,
    taken: list[_BoxPx],
) -> list[GroundTruthObject]:
    """Small objects of one class in a grid on a random patch; the patch counts as taken."""
    name = rng.choice(spec.classes)
    columns = math.ceil(math.sqrt(spec.crowd_objects))
    rows = math.ceil(spec.crowd_objects / columns)
    cell = max(_MIN_SIDE_PX + 2, int(0.5 * min(width, height) / columns))
    patch_w, patch_h = columns * cell - 2, rows * cell - 2
    x0 = rng.randint(0, max(0, width - 1 - patch_w))
    y0 = rng.randint(0, max(0, height - 1 - patch_h))
    patch = _BoxPx(x0, y0, min(width - 1, x0 + patch_w), min(height - 1, y0 + patch_h))
    objects = []
    for index in range(spec.crowd_objects):
        x, y = x0 + index % columns * cell, y0 + index // columns * cell
        box = _BoxPx(x, y, x + cell - 2, y + cell - 2)
        if box.x2 < width and box.y2 < height:
            objects.append(_draw_object(draw, name, box, spec, rng))
    taken.append(patch)
    if spec.crowd_as_region:
        values = tuple(float(value) for value in patch)
        return [GroundTruthObject(name, "bbox_2d", values, iscrowd=True)]
    return objects


def _draw_object(
    draw: ImageDraw.ImageDraw, name: str, box: _BoxPx, spec: SceneSpec, rng: random.Random
) -> GroundTruthObject:
    colour, shape = split_class(name)
    red, green, blue = (min(255, max(0, v + rng.randint(-15, 15))) for v in COLOURS[colour])
    fill = (red, green, blue)
    corners = [
        (box.x1 + fx * (box.x2 - box.x1), box.y1 + fy * (box.y2 - box.y1))
        for fx, fy in OUTLINES[shape]
    ]
    if shape == "circle" and not spec.polygons:
        draw.ellipse(box, fill=fill)
    else:
        draw.polygon(corners, fill=fill)
    if spec.polygons:
        flat = tuple(round(value, 3) for corner in corners for value in corner)
        return GroundTruthObject(name, "poly", flat)
    return GroundTruthObject(name, "bbox_2d", tuple(float(value) for value in box))


__all__ = ["COLOURS", "OUTLINES", "SceneSpec", "make_scene", "split_class", "write_scenes"]
