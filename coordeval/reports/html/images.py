"""Thumbnails for the gallery: found, shrunk, and counted where they are missing."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.config import load_defaults
from coordeval.data.images import load_upright_rgb
from coordeval.data.paths import resolve_image
from coordeval.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from coordeval.runs import Run

SIDE_PX = 320
QUALITY = 72
SMALL_SIDE_PX, SMALL_QUALITY = 160, 92


@dataclass(kw_only=True)
class Thumbnails:
    """What was embedded: `uris` by position of the image, and why others are not.

    `missing` counts images that were looked for and could not be read (`reasons` holds the first
    few, by position), `unnamed` lines without an image path, `beyond_cap` those not looked for;
    `misfits` are files whose proportions are not those of the line.
    """

    cap: int
    uris: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    unnamed: int = 0
    beyond_cap: int = 0
    misfits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One image to embed: its position in the gallery, its path as written, its size."""

    position: int
    image: str | None
    width: int
    height: int
    roots: Sequence[Path]


def image_roots(run: Run, given: Path | None) -> list[Path]:
    """Folders that a run's image paths may start from, the likeliest first.

    With `given` only that one. Else the run's own image root, its dataset's folder, those of the
    coordeval.toml that applies, and the folder of the rollouts.
    """
    if given is not None:
        return [given]
    roots = [run.image_root] if run.image_root is not None else []
    if run.dataset_path is not None:
        roots.append(run.dataset_path.parent)
    roots += _configured(run)
    roots.append(run.rollouts_path.parent)
    return list(dict.fromkeys(root for root in roots if _is_folder(root)))


def _is_folder(path: Path) -> bool:
    """Whether a run's own words name a folder; they may name anything at all."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _configured(run: Run) -> list[Path]:
    try:
        defaults = load_defaults(Path.cwd(), near=run.path)
    except ConfigError:
        # A report needs no defaults: a broken file is the business of commands that do.
        return []
    if defaults.image_root is not None:
        return [defaults.image_root]
    return [defaults.data.parent] if defaults.data is not None else []


def thumbnails(
    wanted: Iterable[Wanted], cap: int, progress: Callable[[int], None] | None = None
) -> Thumbnails:
    """Embed the first `cap` of the wanted images that can be read, in the order given."""
    out = Thumbnails(cap=cap)
    for item in wanted:
        if item.image is None:
            out.unnamed += 1
        elif len(out.uris) >= cap:
            out.beyond_cap += 1
        else:
            _embed(item, item.image, out)
            if progress is not None:
                progress(len(out.uris))
    return out


def _embed(item: Wanted, name: str, out: Thumbnails) -> None:
    reason = "no folder to look for images in; name one with --image-root"
    for root in item.roots:
        try:
            image = load_upright_rgb(resolve_image(root, name))
        except (DataError, OSError) as error:
            # OSError: names that the file system refuses to look up, too long ones for instance.
            reason = str(error)
            continue
        if abs(image.width * item.height - image.height * item.width) > 0.02 * (
            image.width * item.height
        ):
            out.misfits += 1
        small = max(image.size) <= SMALL_SIDE_PX
        image.thumbnail((SIDE_PX, SIDE_PX))
        buffer = io.BytesIO()
        image.save(
            buffer,
            "JPEG",
            quality=SMALL_QUALITY if small else QUALITY,
            # Tiny images are shown enlarged: halved colour would bleed over their edges.
            subsampling=0 if small else 2,
            optimize=True,
        )
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        out.uris[item.position] = f"data:image/jpeg;base64,{encoded}"
        return
    out.missing[item.position] = reason


__all__ = ["QUALITY", "SIDE_PX", "Thumbnails", "Wanted", "image_roots", "thumbnails"]
