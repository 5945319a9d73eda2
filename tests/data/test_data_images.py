"""Images are loaded upright, as RGB, or refused with the file's name."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from coordeval.data import images
from coordeval.data.images import load_sample_image, load_upright_rgb, upright_size
from coordeval.errors import DataError
from coordeval.records import Sample

ORIENTATIONS = range(1, 9)


def _corner_image() -> np.ndarray:
    """A 2x3 grid of 16-pixel blocks, every block of its own colour."""
    colours = np.array(
        [[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]], [[0, 250, 250], [250, 0, 250]]],
        dtype=np.uint8,
    )
    return colours.repeat(16, axis=0).repeat(16, axis=1)


def _stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that a viewer applying `orientation` (EXIF 2.3) sees `upright`."""
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # shown after turning 90 degrees clockwise
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(inverse[orientation](upright))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    """All eight orientations come out upright, and the header tells the same size."""
    upright = _corner_image()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{suffix}"
    options = {"quality": 95} if suffix != "webp" else {"lossless": True}
    Image.fromarray(_stored_for(upright, orientation)).save(path, exif=exif, **options)
    loaded = load_upright_rgb(path)
    assert loaded.mode == "RGB"
    assert loaded.size == upright_size(path) == (32, 48)
    difference = np.abs(np.asarray(loaded).astype(int) - upright.astype(int))
    # JPEG smears colours at the borders of blocks; their middles tell the orientation
    assert difference[8::16, 8::16].max() < 40


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_nonsense_orientations_are_ignored(tmp_path, orientation):
    """A value that EXIF does not know leaves the image as it is stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (5, 7)).save(tmp_path / "a.png", exif=exif)
    assert load_upright_rgb(tmp_path / "a.png").size == upright_size(tmp_path / "a.png") == (5, 7)


def test_an_exif_block_behind_the_pixels_counts(tmp_path):
    """PNG allows EXIF after the image data; size and pixels agree on it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 7)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    checksum = struct.pack(">I", zlib.crc32(b"eXIf" + payload))
    chunk = struct.pack(">I", len(payload)) + b"eXIf" + payload + checksum
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert load_upright_rgb(tmp_path / "a.png").size == upright_size(tmp_path / "a.png") == (7, 5)


def test_modes_become_rgb_sensibly(tmp_path):
    """Palette, transparency, grey, 16 bits and CMYK come out as the colours people see."""
    cases = {
        "palette.png": (Image.new("RGB", (2, 2), (10, 200, 30)).quantize(4), (10, 200, 30)),
        "clear.png": (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        "half.png": (Image.new("LA", (2, 2), (0, 128)), (127, 127, 127)),
        "grey.png": (Image.new("L", (2, 2), 77), (77, 77, 77)),
        "bit.png": (Image.new("1", (2, 2), 1), (255, 255, 255)),
        "deep.png": (Image.fromarray(np.full((2, 2), 0x80FF, np.uint16)), (128, 128, 128)),
        "cmyk.tiff": (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
    }
    for name, (image, colour) in cases.items():
        image.save(tmp_path / name)
        loaded = load_upright_rgb(tmp_path / name)
        assert loaded.mode == "RGB", name
        assert np.abs(np.array(loaded.getpixel((0, 0))) - colour).max() <= 1, name


def test_a_transparent_palette_entry_is_laid_on_white(tmp_path):
    """A GIF's clear colour is white, not the colour that hides behind it."""
    image = Image.new("P", (2, 2), 0)
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "a.gif", transparency=0)
    loaded = load_upright_rgb(tmp_path / "a.gif")
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((1, 1)) == (200, 100, 50)


def test_float_pixels_are_refused_rather_than_guessed(tmp_path):
    """The range of floating-point pixels is unknown, so they are an error."""
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="floating-point"):
        load_upright_rgb(tmp_path / "a.tiff")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"not an image"),
        ("magic.png", b"\x89PNG\r\n\x1a\n"),
        ("magic.jpg", b"\xff\xd8\xff\xe0"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
    ],
)
def test_files_that_are_no_images_are_refused_by_name(tmp_path, name, content):
    """What cannot be read names the file, in one line; PostScript is never interpreted."""
    path = tmp_path / name
    path.write_bytes(content)
    for read in (load_upright_rgb, upright_size):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_images_are_refused(tmp_path, form, share):
    """A file that was cut short is an error, not a picture with a grey half."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    path = tmp_path / "cut.img"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with pytest.raises(DataError, match=r"cut\.img"):
        load_upright_rgb(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    """A missing file and a folder are DataErrors."""
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(DataError, match="no such image file"):
            load_upright_rgb(path)


def test_images_with_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    """The limit holds on the header's size, for loading and measuring alike."""
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    for read in (load_upright_rgb, upright_size):
        with pytest.raises(DataError, match="more than 399 pixels"):
            read(tmp_path / "a.png")


def test_a_real_decompression_bomb_is_refused(tmp_path):
    """A small file that claims 400 million pixels is refused without reading them."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + payload))
        return struct.pack(">I", len(payload)) + kind + payload + checksum

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    (tmp_path / "bomb.png").write_bytes(data + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="pixels"):
        load_upright_rgb(tmp_path / "bomb.png")


def test_a_sample_gives_its_upright_image_or_says_what_is_wrong(tmp_path):
    """Turned images count with their sides swapped; other sizes and samples without images do not."""
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_corner_image()).save(path, exif=exif)  # 32 x 48 as stored
    sample = Sample(id="1", image="turned.jpg", width=48, height=32, objects=(), image_path=path)
    assert load_sample_image(sample).size == (48, 32)
    for width, height in ((32, 48), (48, 33)):
        other = dataclasses.replace(sample, width=width, height=height)
        with pytest.raises(DataError, match=f"48x32, the dataset says {width}x{height}"):
            load_sample_image(other)
    with pytest.raises(DataError, match="the dataset was opened without images"):
        load_sample_image(dataclasses.replace(sample, image_path=None))
    missing = dataclasses.replace(sample, image_path=tmp_path / ("x" * 300))
    with pytest.raises(DataError, match="there is no such image file"):
        load_sample_image(missing)
