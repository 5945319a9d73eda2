"""Scenes put together from cells that are cut out of the training photos, on an even background.

A model that knows nothing learns here what a coordinate is: where one to four whole cells lie apart
from each other (`FEW`), what comes next and where is never in doubt. `CROWD` is as large and as
full as a whole photo. Nothing is drawn; every pixel of a cell is of a training photo.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw, ImageFilter

from coordeval.data.dataset import open_dataset
from coordeval.data.images import load_upright_rgb
from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Box = tuple[float, float, float, float]

TRIES = 30
MARGIN = 0.06
"""A cell is cut out along the ellipse in its box, larger by this share; its rim is blurred."""


class Plan(NamedTuple):
    """What scenes are like: size in pixels, how many cells, and how they lie.

    `zoom`: pixels of the scene for one of the photo; 0.3 is the scale of a whole photo.
    `overlap`: the largest share of a cell that another may cover; `outside`: that may lie beyond
    the border. `evenly` 0 draws classes as often as they are, 1 equally often.
    """

    size: tuple[int, int]
    fewest: int
    most: int
    zoom: tuple[float, float]
    overlap: float
    outside: float
    evenly: float


FEW = Plan((96, 80), 1, 4, (0.18, 0.36), 0.0, 0.0, 0.5)
CROWD = Plan((192, 144), 4, 20, (0.27, 0.33), 0.2, 0.5, 0.0)


class Cell(NamedTuple):
    """A cut-out with its surroundings' colour."""

    desc: str
    image: Image.Image
    background: tuple[int, int, int]


def cells_of(source: Path, image_root: Path) -> dict[str, list[Cell]]:
    """All cells by name that no border of their photo cuts."""
    out: dict[str, list[Cell]] = {}
    for sample in open_dataset(source, image_root=image_root):
        assert sample.image_path is not None
        photo = load_upright_rgb(sample.image_path)
        background = _background(photo)
        for obj in sample.objects:
            x1, y1, x2, y2 = obj.values_px
            if min(x1, y1) > 1 and x2 < sample.width - 2 and y2 < sample.height - 2:
                cut = photo.crop((round(x1), round(y1), round(x2) + 1, round(y2) + 1))
                out.setdefault(obj.desc, []).append(Cell(obj.desc, cut, background))
    return dict(sorted(out.items()))


def _background(photo: Image.Image) -> tuple[int, int, int]:
    """The colour of the brightest fifth: where there is no cell."""
    pixels = list(photo.resize((32, 24)).getdata())
    bright = sorted(pixels, key=sum)[-len(pixels) // 5 :]
    red, green, blue = (sum(channel) // len(bright) for channel in zip(*bright, strict=True))
    return red, green, blue


def scene(
    rng: random.Random, cells: dict[str, list[Cell]], plan: Plan
) -> tuple[Image.Image, list[tuple[Box, str]]]:
    """A scene and its boxes in pixels of it; places that overlap too much are drawn again."""
    shares = [len(found) ** (1 - plan.evenly) for found in cells.values()]
    names = rng.choices(list(cells), shares, k=rng.randint(plan.fewest, plan.most))
    chosen = [rng.choice(cells[name]) for name in names]
    image = Image.new("RGB", plan.size, chosen[0].background)
    zoom = rng.uniform(*plan.zoom)
    boxes: list[tuple[Box, str]] = []
    for cell in chosen:
        size = _sides(cell, zoom, plan.size)
        for _ in range(TRIES):
            x, y = (
                rng.randint(round(-plan.outside * side), round(room - (1 - plan.outside) * side))
                for side, room in zip(size, plan.size, strict=True)
            )
            box = _clipped((x, y, x + size[0] - 1, y + size[1] - 1), plan.size)
            if all(_covered(box, other) <= plan.overlap for other, _ in boxes):
                _paste(image, cell, (x, y, *size), rng)
                boxes.append((box, cell.desc))
                break
    return image, boxes


def _sides(cell: Cell, zoom: float, room: tuple[int, int]) -> tuple[int, int]:
    w, h = (min(max(5, round(s * zoom)), r - 2) for s, r in zip(cell.image.size, room, strict=True))
    return w, h


def _clipped(box: tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = map(float, box)
    return max(0.0, x1), max(0.0, y1), min(size[0] - 1.0, x2), min(size[1] - 1.0, y2)


def _covered(a: Box, b: Box) -> float:
    """The part of the smaller box that the other covers."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    smaller = min((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return max(0.0, width) * max(0.0, height) / smaller


def _paste(
    image: Image.Image, cell: Cell, place: tuple[int, int, int, int], rng: random.Random
) -> None:
    x, y, w, h = place
    cut = cell.image
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mask = Image.new("L", (w * 4, h * 4))
    dx, dy = 4 * w * MARGIN, 4 * h * MARGIN
    ImageDraw.Draw(mask).ellipse((-dx, -dy, 4 * w + dx, 4 * h + dy), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(3)).resize((w, h))
    image.paste(cut.resize((w, h), Image.Resampling.BICUBIC, reducing_gap=3.0), (x, y), mask)


def write_pasted(
    source: Path,
    image_root: Path,
    out: Path,
    *,
    plan: Plan,
    name: str,
    count: int,
    seed: int,
    order: Callable[[Box], Sequence[float]],
) -> Path:
    """Write `out/NAME.jsonl` and its images; the same arguments give the same lines."""
    cells = cells_of(source, image_root)
    (out / name).mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for number in range(count):
        rng = random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - scenes, no secrets
        image, boxes = scene(rng, cells, plan)
        file = f"{name}/{number:05d}.jpg"
        image.save(out / file, quality=92)
        objects = [
            {"desc": desc, "bbox_2d": list(box)}
            for box, desc in sorted(boxes, key=lambda item: tuple(order(item[0])))
        ]
        lines.append(
            {"image": file, "width": plan.size[0], "height": plan.size[1], "objects": objects}
        )
    path = out / f"{name}.jsonl"
    path.write_bytes(b"".join(dump_line(line) for line in lines))
    return path


__all__ = ["CROWD", "FEW", "Cell", "Plan", "cells_of", "scene", "write_pasted"]
