"""Noise images: seeded, readable as a dataset, and with nothing to find."""

import numpy as np
import pytest
from PIL import Image

from coordeval.data.dataset import open_dataset
from coordeval.data.noise import write_noise_images
from coordeval.errors import ConfigError, DataError


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_dataset_has_images_and_no_objects(tmp_path):
    """Every sample has an image of the stated size and an empty ground truth."""
    samples = list(open_dataset(write_noise_images(tmp_path, count=5, side_px=48)))
    assert [sample.id for sample in samples] == ["0000", "0001", "0002", "0003", "0004"]
    for sample in samples:
        assert sample.objects == ()
        assert (sample.width, sample.height) == (48, 48)
        assert _pixels(sample.image_path).shape == (48, 48, 3)


def test_pixels_are_noise(tmp_path):
    """Pixels fill the range of a byte evenly and do not depend on their neighbours."""
    write_noise_images(tmp_path, count=2, side_px=128)
    values = _pixels(tmp_path / "images" / "noise-0000.png").astype(float)
    counts = np.bincount(values.astype(int).ravel(), minlength=256)
    expected = values.size / 256
    # Chi-square with 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 6 * 22.6
    flat = values.ravel()
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.03


def test_an_image_depends_on_the_seed_and_its_index_alone(tmp_path):
    """A longer set begins with the shorter one; other indices and seeds give other images."""
    for name, count, seed in (("short", 2, 0), ("long", 4, 0), ("other", 2, 1)):
        write_noise_images(tmp_path / name, count=count, seed=seed)
    image = "images/noise-0001.png"
    short, long = _pixels(tmp_path / "short" / image), _pixels(tmp_path / "long" / image)
    assert np.array_equal(short, long)
    assert not np.array_equal(short, _pixels(tmp_path / "short" / "images/noise-0000.png"))
    assert not np.array_equal(short, _pixels(tmp_path / "other" / image))


def test_faults_are_told(tmp_path):
    """Sizes without sense and folders that cannot be written are errors of one line."""
    with pytest.raises(ConfigError, match="noise images need"):
        write_noise_images(tmp_path, side_px=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_noise_images(tmp_path / "file", count=1)


def test_no_images_is_an_empty_file(tmp_path):
    """Zero images give a dataset without samples."""
    assert write_noise_images(tmp_path, count=0).read_bytes() == b""
