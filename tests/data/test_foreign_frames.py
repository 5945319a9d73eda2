"""What another model's numbers mean in pixels, and the size that Qwen2.5-VL writes them for."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.coords import DEFAULT_FRAME, FRAMES, frame_named, quantise
from coordeval.data.canonical import sample_text
from coordeval.data.pixels import PixelLimits
from coordeval.engines.dialect_frame import processor_grid, settle_frame
from coordeval.errors import ConfigError
from coordeval.parsers import dialect_named, parse
from coordeval.parsers.dialects import FOREIGN_DIALECTS, value_frame
from coordeval.records import GroundTruthObject, Sample
from coordeval.resizing import smart_resize


def pixels(dialect, values, width, height):
    frame = value_frame(FOREIGN_DIALECTS[dialect], FRAMES[DEFAULT_FRAME])
    assert frame is not None
    return frame.to_pixels(values, width, height).tolist()


@pytest.mark.parametrize(
    ("dialect", "values", "size", "expected"),
    [
        # rex_omni's own `extracted_predictions` for the notebook image of 1440 x 810.
        (
            "rex-omni",
            (23, 294, 106, 525),
            (1440, 810),
            (33.153153153153156, 238.37837837837836, 152.7927927927928, 425.6756756756757),
        ),
        ("qwen3vl", (0, 500, 250, 1000), (640, 480), (0, 240, 160, 480)),
        ("paligemma", (512, 256, 1023, 768), (640, 480), (320, 120, 639.375, 360)),
        ("florence2", (0, 0, 999, 499), (1000, 500), (0.5, 0.25, 999.5, 249.75)),
        ("cogvlm", (184, 270, 766, 877), (1000, 2000), (184, 540, 766, 1754)),
        # 640 x 480 becomes 644 x 476, which the model's pixels belong to.
        ("qwen25vl", (322, 238, 644, 476), (640, 480), (320, 240, 640, 480)),
    ],
)
def test_numbers_are_the_pixels_that_the_family_means(dialect, values, size, expected):
    """Hand-computed from each family's own formula, and Rex-Omni's from its own output."""
    assert pixels(dialect, values, *size) == pytest.approx(list(expected))


def test_smart_resize_is_that_of_transformers():
    """Equal to the image processor's on every size and limit that it takes, halves included."""
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    rng = np.random.default_rng(0)
    for factor, low, high in ((28, 3136, 12845056), (28, 50176, 1003520), (32, 65536, 16777216)):
        for width, height in rng.integers(1, 5000, size=(400, 2)).tolist():
            if max(width, height) / min(width, height) > 200:
                continue
            theirs = module.smart_resize(height, width, factor, low, high)
            assert smart_resize(width, height, factor, low, high) == theirs[::-1]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 64), st.integers(1, 10**7))
def test_smart_resize_takes_any_size(width, height, factor, limit):
    """Never raises, never gives a side of 0."""
    for low, high in ((1, limit), (limit, 10**12)):
        wide, high_ = smart_resize(width, height, factor, low, high)
        assert wide >= factor
        assert high_ >= factor


def test_frames_are_found_by_their_names():
    """A frame with parameters is its name, so run.json can store it; nonsense is refused."""
    for name in ("unit-1024", "centre-1000", "pixels", "resized-28:3136:12845056", "unit-7"):
        assert frame_named(name).name == name
    for name in ("resized-0:1:2", "resized-28:5:4", "resized-28:1", "unit-0", "unit-01", "unit-x"):
        with pytest.raises(ConfigError, match="unknown coordinate frame"):
            frame_named(name)


@pytest.mark.parametrize("name", FOREIGN_DIALECTS)
def test_ground_truth_comes_back_within_half_a_step(name):
    """Writer, parser and frame together: a box is where it was, up to the dialect's own grid."""
    dialect = FOREIGN_DIALECTS[name]
    rng = np.random.default_rng(1)
    for width, height in ((640, 480), (333, 1021), (64, 64)):
        corners = np.sort(rng.uniform(0.02, 0.98, size=(20, 2, 2)), axis=1)
        corners[:, 1] = np.maximum(corners[:, 1], corners[:, 0] + 0.02)
        boxes = corners.reshape(20, 4) * [width, height, width, height]
        objects = tuple(GroundTruthObject("cat", "bbox_2d", tuple(box)) for box in boxes.tolist())
        sample = Sample(id="a", image="a", width=width, height=height, objects=objects)
        text = sample_text(sample, dialect=dialect, frame=FRAMES["coordexp"], order="as_is")
        read = [pixels(name, item.values, width, height) for item in parse(text, dialect).objects]
        steps = max(width / 999, height / 999, 1.0)
        assert np.abs(np.asarray(read) - boxes).max() <= steps


def test_florence_quantises_as_its_own_processor():
    """Bins are the floor of the pixel over the bin's size, as its quantiser takes them."""
    frame = frame_named("centre-1000")
    rng = np.random.default_rng(2)
    for value in rng.uniform(0, 640, size=200).tolist():
        bins = quantise([value, 0, 640, 480], 640, 480, frame).bins
        assert bins[0] == min(999, int(value / 0.64))


def test_pixel_limits_settle_what_a_pixel_of_qwen25_is(tmp_path):
    """--frame, else --pixels, else the checkpoint's own processor, else the published limits."""
    qwen = dialect_named("qwen25vl")

    def settled(given=None, limits=None):
        grid = processor_grid(tmp_path)
        return settle_frame(qwen, given=given, pixels=limits, processor=grid).frame

    assert settled() == "resized-28:3136:12845056"
    assert settled(limits=PixelLimits(min_pixels=900, max_pixels=90000)) == "resized-28:900:90000"
    assert settled(given="pixels") == "pixels"
    path = tmp_path / "preprocessor_config.json"
    path.write_text('{"min_pixels": 784, "max_pixels": 1000, "patch_size": 14, "merge_size": 2}')
    assert settled() == "resized-28:784:1000"
    path.write_text('{"max_pixels": 90000}')
    assert settled() == "resized-28:3136:90000"
    path.write_text('{"image_processor_type": "Qwen2VLImageProcessor"}')
    assert settled() == "resized-28:3136:1003520"
    path.write_text('{"size": 7, "patch_size": "x"}')
    assert settled() == "resized-28:3136:12845056"
    path.write_text(
        '{"size": {"shortest_edge": 65536, "longest_edge": 70000}, "patch_size": 16, '
        '"merge_size": 2}'
    )
    assert settled() == "resized-32:65536:70000"
    assert settled(limits=PixelLimits()) == "resized-32:1024:999999999999"
    whole = tmp_path / "processor_config.json"
    whole.write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    assert settled() == "resized-32:65536:70000"
    whole.write_text('{"image_processor": {"min_pixels": 4096, "max_pixels": 5000}}')
    assert settled() == "resized-28:4096:5000"
    own = dialect_named("coordjson")
    assert settle_frame(own, given="unit-1000", pixels=None, processor=None) is own


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ({"max_pixels": 40000}, None),
        ({"size": {"shortest_edge": 1024, "longest_edge": 9216}, "patch_size": 8}, None),
        ({}, None),
        ({"patch_size": 16}, PixelLimits()),
        ({}, PixelLimits(min_pixels=10, max_pixels=500)),
    ],
)
def test_the_frame_has_the_size_that_the_processor_makes(tmp_path, own, limits):
    """Whatever its file leaves out, and of images smaller than one patch as well."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from PIL import Image

    from coordeval.engines.hf_inputs import apply_pixel_limits

    plain = {"image_processor_type": "Qwen2VLImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(plain | own))
    processor = transformers.Qwen2VLImageProcessorPil.from_pretrained(tmp_path)
    apply_pixel_limits(processor, limits)
    grid = processor_grid(tmp_path)
    dialect = settle_frame(dialect_named("qwen25vl"), given=None, pixels=limits, processor=grid)
    frame = frame_named(dialect.frame)
    for width, height in ((640, 480), (10, 100), (1201, 37), (33, 47)):
        made = processor(images=[Image.new("RGB", (width, height))])["image_grid_thw"][0]
        _, high, wide = (int(side) * processor.patch_size for side in made)
        assert frame.extents_px(width, height) == (width / wide, height / high)


def test_a_checkpoint_of_the_hub_brings_its_own_limits(tmp_path, monkeypatch):
    """What a pixel is comes from the folder that the engine loads, not from the name given."""
    from types import SimpleNamespace

    from coordeval.engines import job
    from coordeval.engines.options import RolloutOptions

    snapshot = tmp_path / "snapshots" / "1a2b"
    snapshot.mkdir(parents=True)
    limits = '{"min_pixels": 784, "max_pixels": 50000, "patch_size": 14, "merge_size": 2}'
    (snapshot / "preprocessor_config.json").write_text(limits)
    data = tmp_path / "data.jsonl"
    data.write_text('{"image": "a.png", "width": 640, "height": 480, "objects": []}\n')
    found = SimpleNamespace(checkpoint={"path": str(snapshot)}, adapter=None, tokenizer=None)
    monkeypatch.setattr(job, "open_source", lambda _: found)
    options = RolloutOptions(
        checkpoint="me/tuned", data=data, dialect="qwen25vl", runs_dir=tmp_path / "runs"
    )
    prepared = job._prepare(options, lambda _: None)
    assert prepared.dialect.frame == "resized-28:784:50000"


def test_what_an_own_dialect_stores_is_what_it_stored_before():
    """run.json of coordeval's own dialects, and the run names made of it, stay as they were."""
    assert dialect_named("coordjson").to_json() == {
        "name": "coordjson",
        "container": "list",
        "coordinates": "token",
        "field_order": "desc_first",
        "enforce_field_order": False,
    }
