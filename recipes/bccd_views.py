"""Small views of the blood-cell photos: 205 photos are too few for a model that knows nothing.

A view is the whole photo or a crop of it, perhaps mirrored or turned by 180 degrees, in other
light, at 192 x 144 pixels, with the boxes of which enough is to be seen. Cells are listed from left
to right: the first coordinate that is written is the one that orders them, so that where several
cells could come next the model need not decide between far places.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageEnhance

from coordeval.data.dataset import open_dataset
from coordeval.data.images import load_upright_rgb
from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.records import GroundTruthObject, Sample

Box = tuple[float, float, float, float]

SIZE = (192, 144)
"""12 x 9 visual tokens of 16 pixels; a red cell is two of them wide."""
WHOLE_RATE = 0.5
SMALLEST_CROP = 0.7
MIN_VISIBLE = 0.4
"""Boxes of which less than this share lies in a crop are left out."""


class View(NamedTuple):
    """A crop in pixels of the photo, and what is done to it."""

    box: Box
    mirror_x: bool
    mirror_y: bool
    light: tuple[float, float, float]


def plain_view(width: int, height: int) -> View:
    """The whole photo as it is."""
    return View((0.0, 0.0, float(width), float(height)), False, False, (1.0, 1.0, 1.0))


def draw_view(rng: random.Random, width: int, height: int) -> View:
    """A seeded view; both mirrors together are half a turn."""
    scale = 1.0 if rng.random() < WHOLE_RATE else rng.uniform(SMALLEST_CROP, 1.0)
    w, h = scale * width, scale * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    # The photos differ by 2 % in brightness: more than this would teach about other microscopes.
    light = (rng.uniform(0.96, 1.04), rng.uniform(0.85, 1.15), rng.uniform(0.8, 1.2))
    return View((x, y, x + w, y + h), rng.random() < 0.5, rng.random() < 0.5, light)


def show(photo: Image.Image, view: View) -> Image.Image:
    """The pixels of a view."""
    image = photo.resize(SIZE, Image.Resampling.BICUBIC, box=view.box, reducing_gap=3.0)
    if view.mirror_x:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.mirror_y:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    brightness, contrast, colour = view.light
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    return ImageEnhance.Color(image).enhance(colour)


def seen(obj: GroundTruthObject, view: View) -> Box | None:
    """An object's box in pixels of the view; None where too little of it is in there."""
    left, top, right, bottom = view.box
    x1, y1, x2, y2 = obj.values_px
    inner = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    area = (x2 - x1) * (y2 - y1)
    if width <= 0 or height <= 0 or width * height < MIN_VISIBLE * area:
        return None
    # A pixel index frame: the first pixel is 0, the last one size - 1.
    last_x, last_y = SIZE[0] - 1, SIZE[1] - 1
    kx, ky = last_x / (right - left), last_y / (bottom - top)
    xs = sorted(_placed(v, left, kx, last_x, mirror=view.mirror_x) for v in inner[0::2])
    ys = sorted(_placed(v, top, ky, last_y, mirror=view.mirror_y) for v in inner[1::2])
    if xs[1] - xs[0] < 1 or ys[1] - ys[0] < 1:
        return None
    return xs[0], ys[0], xs[1], ys[1]


def _placed(value: float, start: float, factor: float, last: int, *, mirror: bool) -> float:
    place = min(float(last), max(0.0, (value - start) * factor))
    return last - place if mirror else place


def by_left(box: Box) -> tuple[float, float]:
    """Order: from left to right."""
    return box[0], box[1]


def write_views(
    source: Path, image_root: Path, out: Path, *, name: str, per_photo: int, seed: int
) -> Path:
    """Write `out/NAME.jsonl` and its images: `per_photo` views of every photo of `source`.

    None per photo: the photo as it is, once. Rounds go over all photos, so that the first N lines
    are of all of them. The same arguments give the same lines; images are JPEG of quality 92.
    """
    samples = list(open_dataset(source, image_root=image_root))
    (out / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for place, sample in enumerate(samples):
        assert sample.image_path is not None
        photo = load_upright_rgb(sample.image_path)
        for number in range(per_photo or 1):
            rng = random.Random(f"{seed}/whole/{sample.id}/{number}")  # noqa: S311 - no secrets
            size = sample.width, sample.height
            view = draw_view(rng, *size) if per_photo else plain_view(*size)
            image = f"{name}/{number:03d}-{place:03d}.jpg"
            show(photo, view).save(out / image, quality=92)
            lines.append((number, place, _line(sample, view, image)))
    path = out / f"{name}.jsonl"
    path.write_bytes(b"".join(dump_line(line) for _, _, line in sorted(lines, key=_round)))
    return path


def _round(line: tuple[int, int, dict[str, Any]]) -> tuple[int, int]:
    return line[0], line[1]


def _line(sample: Sample, view: View, name: str) -> dict[str, Any]:
    boxes = [(seen(obj, view), obj.desc) for obj in sample.objects if not obj.iscrowd]
    kept = sorted(((box, desc) for box, desc in boxes if box), key=lambda item: by_left(item[0]))
    return {
        "image": name,
        "width": SIZE[0],
        "height": SIZE[1],
        "objects": [
            {"desc": desc, "bbox_2d": [round(value, 2) for value in box]} for box, desc in kept
        ],
        "metadata": {"photo": sample.id},
    }


__all__ = ["SIZE", "View", "by_left", "draw_view", "plain_view", "seen", "show", "write_views"]
