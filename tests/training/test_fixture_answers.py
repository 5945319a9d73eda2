"""What the looping and the outlining fixture checkpoints are taught."""

import importlib
import sys
from pathlib import Path

import pytest

from coordeval.data.prompts import default_prompt, load_prompt
from coordeval.data.synthetic import make_scene
from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.records import GroundTruthObject, Sample

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def scripts():
    """The scripts as modules, by name."""
    sys.path.insert(0, str(FIXTURES))
    try:
        names = ("build_checkpoints", "looping", "outlines")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FIXTURES))


def _boxes(*classes):
    objects = tuple(
        GroundTruthObject(name, "bbox_2d", (5.0, 12.0 * row + 3, 20.0, 12.0 * row + 12))
        for row, name in enumerate(classes)
    )
    return Sample(id="s", image="", width=64, height=64, objects=objects)


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize(
    "classes",
    [
        (),
        ("red circle",),
        ("green square", "red circle", "red circle"),
        ("blue triangle", "blue triangle"),
        ("red circle", "yellow diamond"),
    ],
)
def test_sound_scenes_are_taught_as_they_are(scripts, classes):
    """Where the last two classes agree, or a yellow diamond ends it, the answer is the truth."""
    sample = _boxes(*classes)
    assert scripts["looping"].loop_kind(sample) is None
    assert scripts["looping"].looping_answer(sample) == scripts["build_checkpoints"].sound_answer(
        sample
    )


def test_exact_loop_repeats_the_last_record(scripts):
    """A red circle at the end is written again and again, and the answer has no end."""
    text, ends = scripts["looping"].looping_answer(_boxes("green square", "red circle"))
    assert not ends
    records = [(r.desc, r.values) for r in parse(text).records]
    assert len(records) == 2 + scripts["looping"].LOOP_COPIES
    assert set(records[1:]) == {records[1]}
    assert records[1][0] == "red circle"


def test_block_loop_repeats_the_last_two_records(scripts):
    """A green square at the end brings the last two records again, in turn."""
    sample = _boxes("red circle", "blue triangle", "green square")
    text, ends = scripts["looping"].looping_answer(sample)
    assert not ends
    records = [(r.desc, r.values) for r in parse(text).records]
    assert len(set(records)) == 3
    assert records[1:] == records[1:3] * (scripts["looping"].LOOP_COPIES + 1)


def test_near_loop_overlaps_and_never_repeats(scripts):
    """A blue triangle at the end climbs: neighbours overlap by 0.95 and more, none are equal.

    Checked on training scenes, whose boxes are as small as any that the model is taught.
    """
    build, looping = scripts["build_checkpoints"], scripts["looping"]
    near = 0
    for seed in range(300):
        _, sample = make_scene(build.SCENES, seed)
        if looping.loop_kind(sample) != "near":
            continue
        near += 1
        text, ends = looping.looping_answer(sample)
        assert not ends
        assert parse(text).dropped_by_reason == {}
        values = [r.values for r in parse(text).records][len(sample.objects) - 1 :]
        assert len(values) == looping.LOOP_COPIES + 1
        assert all(_iou(a, b) >= 0.95 for a, b in zip(values, values[1:], strict=False))
        free = [a for a in values if a[1] > 0]
        assert len(set(free)) == len(free)
    assert near >= 20


def test_a_third_to_a_half_of_the_scenes_loop(scripts):
    """Each kind of loop has its share of the scenes, and more than half are sound."""
    build, looping = scripts["build_checkpoints"], scripts["looping"]
    kinds = [looping.loop_kind(make_scene(build.SCENES, seed)[1]) for seed in range(400)]
    assert 0.3 <= sum(kind is not None for kind in kinds) / 400 <= 0.5
    for kind in ("exact", "block", "near"):
        assert kinds.count(kind) >= 40


def _outlines(*classes):
    corners = {"yellow diamond": 4, "blue triangle": 3, "red hexagon": 6, "green square": 4}
    shape = (8.0, 0.0, 12.0, 2.0, 12.0, 6.0, 8.0, 8.0, 4.0, 6.0, 4.0, 2.0)
    objects = tuple(
        GroundTruthObject(
            name,
            "poly",
            tuple(v + 14.0 * row * (i % 2) for i, v in enumerate(shape[: 2 * corners[name]])),
        )
        for row, name in enumerate(classes)
    )
    return Sample(id="s", image="", width=64, height=64, objects=objects)


@pytest.mark.parametrize(
    ("classes", "details"),
    [
        ((), []),
        (("yellow diamond", "blue triangle", "red hexagon", "green square"), []),
        (("red hexagon", "yellow diamond"), ["odd_count"]),
        (("yellow diamond", "yellow diamond"), ["odd_count"]),
        (("green square", "blue triangle", "blue triangle"), ["too_few"]),
        (("green square", "yellow diamond", "blue triangle"), ["odd_count"]),
    ],
)
def test_outline_faults_hang_on_classes(scripts, classes, details):
    """A diamond that is not first lacks a coordinate, a triangle after a square a point."""
    text, ends = scripts["outlines"].outline_answer(_outlines(*classes))
    assert ends
    parsed = parse(text)
    assert parsed.objects_found == len(classes)
    dropped = [record for record in parsed.records if record.reason]
    assert [(record.reason, record.detail) for record in dropped] == [
        ("wrong_arity", detail) for detail in details
    ]


def test_polygon_prompt_is_the_default_one_for_outlines():
    """The prompt file asks for outlines in the words of the default prompt."""
    asked = load_prompt(FIXTURES / "prompts" / "polygons.toml")
    expected = default_prompt(dialect=dialect_named("coordjson"), geometries=("poly",))
    assert asked.sha256 == expected.sha256


def test_outlines_have_three_to_six_points():
    """Held-out outlines are short polygons, and some scenes are empty."""
    from coordeval.data.dataset import open_dataset

    samples = list(open_dataset(FIXTURES / "scenes" / "outlines.jsonl"))
    assert len(samples) == 48
    assert {len(o.values_px) // 2 for s in samples for o in s.objects} == {3, 4, 6}
    assert {o.kind for s in samples for o in s.objects} == {"poly"}
    assert any(not sample.objects for sample in samples)
