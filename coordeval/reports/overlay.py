"""One image of a run with everything that was written about it drawn in: `x.png` or `x.svg`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.atomic import output_file
from coordeval.data.images import load_upright_rgb
from coordeval.data.paths import resolve_image
from coordeval.errors import ConfigError, DataError
from coordeval.exchange.scored_objects import scored_images
from coordeval.reports.overlay_png import draw_png
from coordeval.reports.overlay_scene import build_scene
from coordeval.reports.overlay_svg import draw_svg

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from coordeval.exchange.scored_objects import ScoredImage
    from coordeval.metrics.result import ScoreResult
    from coordeval.reports.overlay_scene import Scene

SUFFIXES = (".png", ".svg")


def overlay_image(
    result: ScoreResult,
    image_id: str,
    *,
    image_root: Path | None = None,
    hidden: frozenset[str] = frozenset(),
    labels: bool = True,
) -> tuple[Scene, Image.Image | None]:
    """What to draw for one image, and its picture in the size that the run states.

    A picture that is missing, unreadable or outside the image root gives None and a note in the
    scene. Raises ConfigError where the run holds no such id.
    """
    image = next(scored_images(result, only=image_id), None)
    if image is None:
        raise ConfigError(f"no sample {image_id!r} in this run; {_hint(result, image_id)}")
    picture, notes = _picture(image, image_root)
    return build_scene(image, hidden=hidden, labels=labels, notes=notes), picture


def write_overlay(scene: Scene, picture: Image.Image | None, out: Path) -> None:
    """Draw to a .png or .svg file; ConfigError for another suffix, DataError where it can't be."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"-o {out}: name a file that ends in .png or .svg")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with output_file(out) as place:
            if suffix == ".png":
                draw_png(scene, picture).save(place, "PNG", optimize=True)
            else:
                place.write_text(draw_svg(scene, picture), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None


def _picture(image: ScoredImage, root: Path | None) -> tuple[Image.Image | None, list[str]]:
    entry = image.entry
    if entry.image is None:
        return None, ["no image: the run does not name its file"]
    if root is None:
        return None, [f"no image: {entry.image} (say where it is with --image-root)"]
    try:
        picture = load_upright_rgb(resolve_image(root, entry.image))
    except DataError as error:
        return None, [f"no image: {error}"]
    if picture.size == (entry.width, entry.height):
        return picture, []
    found = f"{picture.width} x {picture.height}"
    note = f"the image file is {found}, the run says {entry.width} x {entry.height}: stretched"
    return picture.resize((entry.width, entry.height)), [note]


def _hint(result: ScoreResult, image_id: str) -> str:
    import difflib

    ids = [entry.id for entry in result.columns.images]
    near = [name for name in ids if image_id in name][:1]
    near = near or difflib.get_close_matches(image_id, ids, 1)
    return f"did you mean {near[0]!r}?" if near else "list them with: coordeval inspect RUN"


__all__ = ["SUFFIXES", "overlay_image", "write_overlay"]
