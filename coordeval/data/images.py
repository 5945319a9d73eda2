"""Image files as every engine sees them: upright, 8-bit RGB, with a limit on their size."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from coordeval.errors import DataError
from coordeval.foreign_paths import is_file

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.records import Sample

MAX_PIXELS = 89_478_485
"""Images with more pixels are refused (a decompression bomb); Pillow's own warning limit."""

# Formats that Pillow decodes by itself: others would start outside programs (EPS: Ghostscript).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on broken files (they parse with struct, zlib and plain indexing).
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    MemoryError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)


def load_upright_rgb(path: Path) -> Image.Image:
    """The image as people see it: EXIF orientation applied, mode RGB.

    Transparent parts are laid on white; 16-bit grey is scaled to 8 bits. Raises DataError naming
    the file where it is missing, broken, cut short, of an unknown format or above `MAX_PIXELS`.
    """
    with _opened(path) as image:
        try:
            image.load()
            orientation = _orientation(image)
            rgb = _to_rgb(image, path)
            transposition = _TRANSPOSITIONS.get(orientation)
            return rgb if transposition is None else rgb.transpose(transposition)
        except _BROKEN as error:
            raise DataError(f"{path}: the image cannot be decoded: {_one_line(error)}") from None


def load_sample_image(sample: Sample) -> Image.Image:
    """The upright image of a sample, as `load_upright_rgb` reads it.

    Raises DataError where the dataset was opened without images, where the file cannot be read,
    and where the upright image has another size than the dataset says.
    """
    path = sample.image_path
    if path is None:
        raise DataError(f"{sample.image}: the dataset was opened without images")
    image = load_upright_rgb(path)
    if image.size != (sample.width, sample.height):
        raise DataError(
            f"{path}: the upright image is {image.width}x{image.height}, "
            f"the dataset says {sample.width}x{sample.height}"
        )
    return image


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels after EXIF orientation, from the header alone.

    Raises DataError as `load_upright_rgb` does, but does not see damage beyond the header.
    """
    with _opened(path) as image:
        try:
            if image.format == "PNG" and "exif" not in image.info and b"eXIf" in path.read_bytes():
                image.load()  # the chunk stands behind the pixels; Pillow reads it last
            width, height = _stored_size(image)
            return (height, width) if _orientation(image) >= 5 else (width, height)
        except _BROKEN as error:
            raise DataError(f"{path}: the image cannot be read: {_one_line(error)}") from None


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(path: Path) -> Image.Image:
    if not is_file(path):
        raise DataError(f"{path}: there is no such image file")
    try:
        image = Image.open(path, formats=_known_formats())
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not an image in a known format, or its header is broken"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: the image has more than {MAX_PIXELS:,} pixels") from None
    except _BROKEN as error:
        raise DataError(f"{path}: the image cannot be read: {_one_line(error)}") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(f"{path}: the image has more than {MAX_PIXELS:,} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where it is absent, nonsense, or the EXIF block is broken."""
    try:
        # The base method: PNG's own would decode the pixels to look for a late block.
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSITIONS else 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before orientation; Pillow gives TIFF's after it, in some versions."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return image.size
    return int(tags[256]), int(tags[257])


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image, path)
    if image.mode == "F":
        raise DataError(f"{path}: holds floating-point pixels; convert it to 8 bits")
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(canvas, layer).convert("RGB")
    return image.convert("RGB")


def _grey16_to_rgb(image: Image.Image, path: Path) -> Image.Image:
    import numpy as np

    grey = np.asarray(image).astype(np.int64)
    if grey.size and (grey.min() < 0 or grey.max() > 0xFFFF):
        raise DataError(f"{path}: holds grey values beyond 16 bits; convert it to 8 bits")
    return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


__all__ = ["MAX_PIXELS", "load_sample_image", "load_upright_rgb", "upright_size"]
