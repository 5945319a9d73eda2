"""Other models' ways of writing, in an evaluation while training."""

from pathlib import Path

import pytest
from live_training import SCENES

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.dialect_frame import processor_grid, settle_frame
from coordeval.engines.hf_loading import load_reader
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import dialect_named
from coordeval.training.rollout_eval.plan import EvalData, build_plan

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def reader():
    """Tokenizer and image processor of a fixture checkpoint; 4,096 to 9,216 pixels."""
    return load_reader(resolve_checkpoint(str(FIXTURES / "shapes-final")))


def _plan(reader, **given):
    data = EvalData(data=SCENES, limit=2, **given)
    return build_plan(data, reader, data.options(Path("unused")), lambda _: None)


@pytest.mark.parametrize(
    ("given", "frame"),
    [
        ({"dialect": "coordjson"}, None),
        ({"dialect": "qwen3vl"}, "unit-1000"),
        ({"dialect": "qwen25vl"}, "resized-16:4096:9216"),
        ({"dialect": "qwen25vl", "pixels": "1000:2000"}, "resized-16:1000:2000"),
        ({"dialect": "qwen25vl", "frame": "pixels"}, "pixels"),
    ],
)
def test_pixels_of_a_resized_image_are_those_of_the_processor(given, frame, reader):
    """What a number means follows the image that the model in training is shown."""
    plan = _plan(reader, **given)
    assert plan.dialect.frame == frame
    assert plan.frame.name == given.get("frame", "coordexp")


def test_offline_and_in_training_a_pixel_is_the_same(reader):
    """The frame that a rollout of the saved checkpoint stores is the training's."""
    dialect = dialect_named("qwen25vl")
    grid = processor_grid(FIXTURES / "shapes-final")
    offline = settle_frame(dialect, given=None, pixels=None, processor=grid)
    assert _plan(reader, dialect="qwen25vl").dialect == offline


def test_a_guard_that_cannot_follow_is_refused(reader):
    """One line before the first step, as `coordeval rollout` says it."""
    with pytest.raises(ConfigError, match="qwen3vl"):
        _plan(reader, dialect="qwen3vl", decode={"loop_guard": "stop"})
