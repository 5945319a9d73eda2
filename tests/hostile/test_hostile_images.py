"""Image files of strangers: bombs, cut files, other things than images, and paths to elsewhere."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from refusals import peak_mb, refusal_of

from coordeval.data.images import MAX_PIXELS, load_upright_rgb, upright_size
from coordeval.data.validate import validate_dataset
from coordeval.errors import DataError


def chunk(kind, payload):
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return struct.pack(">I", len(payload)) + kind + payload + checksum


def png(*chunks, size=(4, 4), rows=None):
    """A PNG of grey pixels with further chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    data = rows if rows is not None else b"\0" * (size[1] * (size[0] + 1))
    pixels = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


IMPORT = "from coordeval.data.images import load_upright_rgb, upright_size"
BOMB = zlib.compress(b"A" * (200 << 20), 9)


def refused(read, path):
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text and len(text) < 1000
    return text


@pytest.mark.parametrize(
    "kind",
    [
        (b"zTXt", b"Comment\0\0" + BOMB),
        (b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
        (b"iCCP", b"icc\0\0" + BOMB),
    ],
    ids=["zTXt", "iTXt", "iCCP"],
)
@pytest.mark.parametrize("number", [1, 20])
def test_bombs_in_chunks_of_text_take_no_memory(tmp_path, kind, number):
    """200 MB of text in a compressed chunk are never unpacked: refused, or passed over."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*[chunk(*kind)] * number))
    for read in ("upright_size", "load_upright_rgb"):
        used_mb, refusal = peak_mb(IMPORT, f"{read}(path)", path)
        assert used_mb < 40
        assert not refusal or str(path) in refusal


def test_pixels_that_unpack_to_more_than_the_image_take_no_memory(tmp_path):
    """Image data beyond the image's own rows are left where they are."""
    path = tmp_path / "more.png"
    path.write_bytes(png(rows=b"\0" * (200 << 20)))
    used_mb, refusal = peak_mb(IMPORT, "load_upright_rgb(path)", path)
    assert used_mb < 40
    assert not refusal or str(path) in refusal


def _claims(width, height):
    """Headers that claim a size, in formats that say it early."""
    bmp = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    gif = b"GIF89a" + struct.pack("<HHBBB", min(width, 65535), min(height, 65535), 0, 0, 0)
    gif += (
        b"," + struct.pack("<HHHHB", 0, 0, min(width, 65535), min(height, 65535), 0) + b"\2\1\0\0;"
    )
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, 100)]
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    tiff += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + b"\0" * 4
    return {
        "png": png(size=(width, height), rows=b""),
        "bmp": bmp,
        "gif": gif,
        "tiff": tiff,
        "ppm": f"P6 {width} {height} 255\n".encode(),
    }


@pytest.mark.parametrize("form", ["png", "bmp", "gif", "tiff", "ppm"])
@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_claimed_sizes_above_the_limit_are_refused_before_decoding(tmp_path, form, size):
    """Some bytes that claim more pixels than the limit are refused by their header."""
    if form == "gif":  # whose sides have 16 bits
        size = min(size[0], 65_535), min(size[1] * 2, 65_535)
    if size[0] * size[1] <= MAX_PIXELS:
        pytest.skip("GIF cannot claim this size")
    path = tmp_path / f"claim.{form}"
    path.write_bytes(_claims(*size)[form])
    for read in (upright_size, load_upright_rgb):
        refused(read, path)


NO_IMAGES = {
    "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "page.pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "page.html": b"<html><img src=x></html>",
    "model.bin": b"\x80\x04cos\nsystem\n(S'touch x'\ntR.",
    "fake.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "icon.ico": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x10\0\0\0\x16\0\0\0",
    "x.wmf": b"\xd7\xcd\xc6\x9a" + b"\0" * 40,
    "x.fits": b"SIMPLE  =                    T" + b" " * 3000,
    "x.hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "x.gbr": b"\0" * 30,
    "x.mpo": b"",
}


@pytest.mark.parametrize("name", NO_IMAGES)
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_other_files_are_not_interpreted(tmp_path, name, suffix):
    """SVG, PDF, PostScript, pickles and their like are refused, whatever they are called."""
    path = tmp_path / (name + suffix)
    path.write_bytes(NO_IMAGES[name])
    for read in (upright_size, load_upright_rgb):
        refused(read, path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    """A fifo, a device, a folder, a socket's name, a long name: none is opened or waited for."""
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    names = ["fifo.png", "folder.png", "zero.png", "loop.png", "none.png", "n" * 5000]
    for name in names:
        for read in (upright_size, load_upright_rgb):
            refused_path = tmp_path / name
            with pytest.raises(DataError, match="no such image file"):
                read(refused_path)
    with pytest.raises(DataError):
        load_upright_rgb(tmp_path / "a\0b.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, on broken EXIF blocks
@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"]
)
def test_every_cut_and_many_flips_are_read_or_refused(tmp_path, form):
    """A file cut at any place or with any bit flipped is an image, or a DataError with its name."""
    import io

    buffer = io.BytesIO()
    picture = Image.effect_noise((9, 7), 50)
    picture.convert("P" if form == "GIF" else "RGB").save(buffer, form)
    data = buffer.getvalue()
    rng = np.random.default_rng(0)
    path = tmp_path / "x.img"
    variants = [data[:cut] for cut in range(0, len(data), max(1, len(data) // 60))]
    for _ in range(120):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        variants.append(bytes(flipped))
    for variant in variants:
        path.write_bytes(variant)
        for read in (upright_size, load_upright_rgb):
            refusal = refusal_of(lambda read=read: read(path))
            assert refusal is None or str(path) in refusal


def test_validation_opens_hostile_images_and_goes_on(tmp_path):
    """`data validate` counts hostile images, and none of them ends it."""
    import json

    (tmp_path / "bomb.png").write_bytes(png(size=(20_000, 20_000), rows=b""))
    (tmp_path / "page.svg").write_bytes(NO_IMAGES["page.svg"])
    os.mkfifo(tmp_path / "fifo.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "out.png").symlink_to("/etc/passwd")
    names = ["bomb.png", "page.svg", "fifo.png", "good.png", "out.png", "../x.png", "n" * 5000]
    rows = [{"image": name, "width": 4, "height": 4, "objects": []} for name in names]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = validate_dataset(path, images="open").log.counts
    assert counts["unreadable_image"] == 2
    assert counts["missing_image"] == 2
    assert counts["path_outside_root"] == 2
