"""Synthetic scenes: seeded, exact, and as varied as the spec asks."""

import json

import numpy as np
import pytest

from coordeval.coords import frame_named, quantise
from coordeval.data.objects import hull_px, read_object
from coordeval.data.synthetic import OUTLINES, SceneSpec, make_scene, split_class, write_scenes
from coordeval.errors import ConfigError, DataError

ALL_SHAPES = tuple(
    f"{colour} {shape}"
    for colour, shape in zip(
        ("red", "green", "blue", "yellow", "purple", "orange"), OUTLINES, strict=True
    )
)


def _read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_same_seed_writes_the_same_bytes(tmp_path):
    """Two writes with the same arguments agree byte for byte, and another seed differs."""
    spec = SceneSpec(name="s", noise=8, clutter=3, empty_rate=0.2, crowd_rate=0.3)
    first, second, other = (
        write_scenes(spec, tmp_path / name, 6, seed)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first.read_bytes() != other.read_bytes()
    assert second.name == "s.jsonl"


def test_lines_follow_the_dataset_contract(tmp_path):
    """Every line has a relative image that exists with the stated size, and readable objects."""
    from PIL import Image

    spec = SceneSpec(name="s", sides_px=(64, 80, 96), polygons=True)
    path = write_scenes(spec, tmp_path, 8, 0)
    sizes = set()
    for line in _read(path):
        with Image.open(tmp_path / line["image"]) as image:
            assert image.size == (line["width"], line["height"])
            assert image.mode == "RGB"
        sizes.add((line["width"], line["height"]))
        for raw in line["objects"]:
            read_object(
                raw,
                width=line["width"],
                height=line["height"],
                frame=frame_named("coordexp"),
                bins=False,
            )
    assert len(sizes) > 2


@pytest.mark.parametrize("name", ALL_SHAPES)
@pytest.mark.parametrize("polygons", [False, True])
def test_box_is_the_extent_of_the_coloured_pixels(name, polygons):
    """The annotated hull equals the first and the last coloured pixel along both axes."""
    spec = SceneSpec(classes=(name,), min_objects=1, max_objects=1, polygons=polygons)
    for seed in range(12):
        image, sample = make_scene(spec, seed)
        pixels = np.asarray(image).astype(int)
        coloured = pixels.max(axis=2) - pixels.min(axis=2) > 12
        ys, xs = np.nonzero(coloured)
        found = (xs.min(), ys.min(), xs.max(), ys.max())
        assert np.abs(np.subtract(found, hull_px(sample.objects[0]))).max() <= 1
        if not polygons and split_class(name)[1] in {"square", "circle"}:
            assert found == hull_px(sample.objects[0])


def test_boxes_lie_on_the_coordexp_grid():
    """Boxes stay within 0..side-1, so no bin is clamped and none is widened."""
    spec = SceneSpec(min_objects=4, max_objects=8, min_size=0.1, max_size=0.9, max_overlap=0.9)
    touching = 0
    for seed in range(60):
        _, sample = make_scene(spec, seed)
        for obj in sample.objects:
            x1, y1, x2, y2 = obj.values_px
            assert 0 <= x1 < x2 <= sample.width - 1
            assert 0 <= y1 < y2 <= sample.height - 1
            bins = quantise(obj.values_px, sample.width, sample.height, frame_named("coordexp"))
            assert (bins.clamped, bins.widened) == (0, False)
            touching += 999 in bins.bins
    assert touching > 0


def test_overlap_is_limited_as_asked():
    """Objects stay 2 px apart by default, and overlap only up to the allowed share."""

    def worst(spec):
        shares = [-1.0]
        for seed in range(40):
            boxes = [obj.values_px for obj in make_scene(spec, seed)[1].objects]
            for i, a in enumerate(boxes):
                for b in boxes[:i]:
                    w = min(a[2], b[2]) - max(a[0], b[0])
                    h = min(a[3], b[3]) - max(a[1], b[1])
                    area = min((q[2] - q[0]) * (q[3] - q[1]) for q in (a, b))
                    shares.append(w * h / area if w > -2 and h > -2 and (w > 0 or h > 0) else -1)
        return max(shares)

    assert worst(SceneSpec(min_objects=5, max_objects=6)) == -1.0
    assert 0.1 < worst(SceneSpec(min_objects=5, max_objects=6, max_overlap=0.3)) <= 0.3


def test_counts_and_empty_scenes_follow_the_spec():
    """Object counts cover exactly the asked range, and the share of empty scenes is as asked."""
    spec = SceneSpec(min_objects=1, max_objects=3, max_size=0.25, empty_rate=0.25)
    counts = [len(make_scene(spec, seed)[1].objects) for seed in range(400)]
    assert set(counts) == {0, 1, 2, 3}
    assert 0.18 < counts.count(0) / 400 < 0.32
    always = SceneSpec(empty_rate=1.0)
    image, sample = make_scene(always, 1)
    assert sample.objects == ()
    assert len(set(np.asarray(image).reshape(-1).tolist())) == 1


def test_crowds_are_many_of_one_class_or_one_region():
    """A crowd scene holds the asked number of equal objects, or one crowd annotation."""
    spec = SceneSpec(sides_px=(96,), crowd_rate=1.0, crowd_objects=9, min_objects=0, max_objects=0)
    _, sample = make_scene(spec, 5)
    assert len(sample.objects) == 9
    assert len({obj.desc for obj in sample.objects}) == 1
    assert len({obj.values_px for obj in sample.objects}) == 9
    region = SceneSpec(
        sides_px=(96,), crowd_rate=1.0, crowd_as_region=True, min_objects=0, max_objects=0
    )
    _, sample = make_scene(region, 5)
    assert [obj.iscrowd for obj in sample.objects] == [True]


def test_noise_and_clutter_change_only_the_picture():
    """Pixel noise is bounded, and neither noise nor clutter adds ground truth."""
    plain = SceneSpec(empty_rate=1.0)
    noisy = SceneSpec(empty_rate=1.0, noise=10, clutter=5)
    image, sample = make_scene(noisy, 2)
    assert sample.objects == ()
    assert np.asarray(image).std() > np.asarray(make_scene(plain, 2)[0]).std()
    pixels = np.asarray(make_scene(SceneSpec(empty_rate=1.0, noise=10), 2)[0]).astype(int)
    assert 0 < pixels.max() - pixels.min() <= 20


def test_impossible_specs_are_refused_in_one_line(tmp_path):
    """A wrong spec or folder is a user fault with a clear text."""
    with pytest.raises(ConfigError, match="red, green"):
        SceneSpec(classes=("mauve blob",))
    with pytest.raises(ConfigError, match="min_objects"):
        SceneSpec(min_objects=3, max_objects=2)
    with pytest.raises(ConfigError, match="sides_px"):
        SceneSpec(sides_px=())
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        write_scenes(SceneSpec(), blocked, 1, 0)
    assert write_scenes(SceneSpec(), tmp_path / "none", 0, 0).read_bytes() == b""
