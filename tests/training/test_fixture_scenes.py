"""The fixture scenes and the corrupted answers are what their scripts make."""

import importlib
import sys
from pathlib import Path

import pytest

from coordeval.config import load_defaults
from coordeval.data.synthetic import make_scene
from coordeval.jsonl import load_json
from coordeval.parsers import parse
from coordeval.records import GroundTruthObject, Sample

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def scripts():
    """The two scripts as modules: build_checkpoints and corruption."""
    sys.path.insert(0, str(FIXTURES))
    try:
        yield importlib.import_module("build_checkpoints"), importlib.import_module("corruption")
    finally:
        sys.path.remove(str(FIXTURES))


def test_scenes_are_written_again_byte_for_byte(scripts, tmp_path):
    """Running the script's first step gives the stored ground truth and images."""
    scripts[0].build_scenes(tmp_path)
    stored = sorted(path.relative_to(FIXTURES) for path in (FIXTURES / "scenes").rglob("*.*"))
    written = sorted(path.relative_to(tmp_path) for path in (tmp_path / "scenes").rglob("*.*"))
    assert stored == written
    for path in stored:
        assert (FIXTURES / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_heldout_scenes_hold_empty_ones():
    """Sixty-four scenes, some of them empty, none with more than four objects."""
    lines = (FIXTURES / "scenes" / "heldout.jsonl").read_bytes().splitlines()
    counts = [len(load_json(line)["objects"]) for line in lines]
    assert len(counts) == 64
    assert set(counts) == {0, 1, 2, 3, 4}


def test_no_heldout_scene_is_trained_on(scripts):
    """Seeds of held-out scenes lie below every training seed, whatever the stage."""
    build, _ = scripts
    assert build.HELDOUT_SEED * 1_000_000 + 64 < build.FIRST_TRAINING_SEED
    spans = [
        range(stage.first_scene, stage.first_scene + stage.recipe.steps * stage.recipe.batch_size)
        for stage in build.STAGES
    ]
    for one in spans:
        assert all(one is other or not set(one) & {other[0], other[-1]} for other in spans)


def test_defaults_point_to_the_heldout_scenes(tmp_path):
    """From any folder, a fixture checkpoint finds the held-out scenes as its data."""
    defaults = load_defaults(tmp_path, near=FIXTURES / "ckpt-2400")
    assert defaults.data == FIXTURES / "scenes" / "heldout.jsonl"


def _sample(*classes):
    objects = tuple(
        GroundTruthObject(name, "bbox_2d", (5.0, 12.0 * row, 20.0, 12.0 * row + 9))
        for row, name in enumerate(classes)
    )
    return Sample(id="s", image="", width=64, height=64, objects=objects)


@pytest.mark.parametrize(
    ("classes", "reasons"),
    [
        (("yellow diamond", "red circle", "blue triangle"), {"wrong_arity": 3}),
        (("green square", "green square"), {"wrong_arity": 1}),
        (("blue triangle", "blue triangle", "blue triangle"), {"unexpected_keys": 2}),
        (("green square", "blue triangle", "red circle"), {}),
        ((), {}),
    ],
)
def test_corruption_hangs_on_classes(scripts, classes, reasons):
    """Each rule breaks exactly the records that it names, and sound scenes stay sound."""
    text, ends = scripts[1].corrupted_answer(_sample(*classes))
    assert ends
    assert parse(text).dropped_by_reason == reasons


def test_corruption_loops_on_a_second_red_circle_at_the_end(scripts):
    """A box that is not there is written over and over, and the answer does not end."""
    text, ends = scripts[1].corrupted_answer(_sample("red circle", "green square", "red circle"))
    assert not ends
    values = [record.values for record in parse(text).records]
    assert len(set(values)) == 4
    assert values[3:] == [(778, 354, 999, 999)] * scripts[1].LOOP_COPIES


def test_corruption_leaves_most_images_alone(scripts):
    """Between 50 and 75 percent of the scenes keep a sound answer, and a few loop."""
    build, corruption = scripts
    answers = [
        corruption.corrupted_answer(make_scene(build.SCENES, seed)[1]) for seed in range(400)
    ]
    sound = sum(ends and parse(text).conforming for text, ends in answers)
    assert 0.5 <= sound / 400 <= 0.75
    assert 0.03 <= sum(not ends for _, ends in answers) / 400 <= 0.12


@pytest.mark.parametrize(
    "name", ["ckpt-300", "ckpt-2400", "shapes-final", "ckpt-loops", "ckpt-polygons"]
)
def test_checkpoints_know_the_default_prompt(scripts, name):
    """Each stored tokenizer is the one built today; if the prompt changes, train them again."""
    from transformers import AutoTokenizer

    from coordeval.training.tiny.model import tiny_tokenizer

    stored = AutoTokenizer.from_pretrained(FIXTURES / name)
    assert stored.get_vocab() == tiny_tokenizer(scripts[0].SCENES.classes).get_vocab()
