"""The baseline file: what it holds, when it refuses, and intervals made from it alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from coordeval.errors import DataError, NotComparable, RunIncomplete
from coordeval.metrics.protocols import PROTOCOLS
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.stats.baseline import (
    ground_truth_of,
    make_baseline,
    read_baseline,
    refuse_incomparable,
    write_baseline,
)
from coordeval.stats.bootstrap import draw_weights
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import check_run
from coordeval.stats.gates_intervals import COCO_DRAWS, NUM_DRAWS, SEED, Intervals

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"


@pytest.fixture(scope="module")
def sound():
    return score_run(open_run(RUNS / "ckpt-300"))


@pytest.fixture(scope="module")
def broken():
    return score_run(open_run(RUNS / "ckpt-2400"))


def test_a_baseline_survives_the_disk_and_is_the_same_bytes_again(sound, tmp_path):
    """Written, read and written again: the same object and the same bytes; strict JSON."""
    first, second = tmp_path / "a" / "b.json", tmp_path / "c.json"
    write_baseline(make_baseline(sound, name="x"), first)
    loaded = read_baseline(first)
    write_baseline(loaded, second)
    assert first.read_bytes() == second.read_bytes()
    assert loaded.metrics == sound.metrics
    raw = json.loads(first.read_text(), parse_constant=pytest.fail)
    assert len(raw["per_image"]["id"]) == sound.metrics["samples/total"]
    assert sum(raw["per_image"]["tp@0.50"]) == sound.metrics["f1/0.50/tp"]


def test_other_ground_truth_is_not_comparable(sound):
    """Other images, a missing image or one moved box: exit code 4, saying so."""
    baseline = make_baseline(sound, name="x")
    refuse_incomparable(baseline, sound, where="b.json")
    other = score_run(open_run(DUMPS / "conforming.jsonl"))
    with pytest.raises(NotComparable, match="other ground truth"):
        refuse_incomparable(baseline, other, where="b.json")


def test_one_moved_box_is_other_ground_truth(tmp_path):
    """The hash covers every coordinate, name, crowd flag and size; not the order of the lines."""
    source = (DUMPS / "conforming.jsonl").read_text().splitlines()
    plain = _scored(tmp_path / "a.jsonl", source)
    baseline = make_baseline(plain, name="x")
    refuse_incomparable(baseline, _scored(tmp_path / "b.jsonl", source[::-1]), where="b")
    for change in (
        lambda raw: raw["gt"][0]["bbox_2d"].__setitem__(0, raw["gt"][0]["bbox_2d"][0] - 0.01),
        lambda raw: raw["gt"][0].__setitem__("desc", "other"),
        lambda raw: raw["gt"].pop(),
        lambda raw: raw.__setitem__("id", "renamed"),
        lambda raw: raw.__setitem__("width", raw["width"] + 1),
    ):
        lines = [json.loads(line) for line in source]
        change(next(raw for raw in lines if raw["gt"]))
        moved = _scored(tmp_path / "c.jsonl", [json.dumps(raw) for raw in lines])
        with pytest.raises(NotComparable):
            refuse_incomparable(baseline, moved, where="b")


def test_objects_in_another_order_are_the_same_ground_truth(tmp_path):
    """A data set that was shuffled inside its images is still the one that the baseline knows."""
    source = [json.loads(line) for line in (DUMPS / "conforming.jsonl").read_text().splitlines()]
    turned = [raw | {"gt": raw["gt"][::-1]} for raw in source]
    one, two = (
        _scored(tmp_path / name, list(map(json.dumps, lines)))
        for name, lines in (("a.jsonl", source), ("b.jsonl", turned))
    )
    assert any(len(raw["gt"]) > 1 for raw in source)
    refuse_incomparable(make_baseline(one, name="x"), two, where="b")
    assert ground_truth_of(one.columns) == ground_truth_of(two.columns)


def _scored(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return score_run(open_run(path))


def test_another_protocol_or_version_is_not_comparable(sound):
    """What defines the numbers must be equal: protocol, score source, parser and metrics."""
    baseline = make_baseline(sound, name="x")
    for other in (
        score_run(open_run(RUNS / "ckpt-300"), protocol=PROTOCOLS["rex-omni"]),
        score_run(open_run(RUNS / "ckpt-300"), score_source="order"),
    ):
        with pytest.raises(NotComparable, match="protocol"):
            refuse_incomparable(baseline, other, where="b")
    baseline.versions["parser"] = "0"
    with pytest.raises(NotComparable, match="parser"):
        refuse_incomparable(baseline, sound, where="b")
    baseline.versions["parser"] = sound.versions["parser"]


def test_a_file_that_is_no_baseline_is_refused(tmp_path):
    """Missing, not JSON, of another kind, or half of one."""
    path = tmp_path / "b.json"
    with pytest.raises(DataError, match="update-baseline"):
        read_baseline(path)
    for content in ("{", "[]", "{}", '{"format": "coordeval-baseline/1", "run": "x"}'):
        path.write_text(content)
        with pytest.raises(DataError):
            read_baseline(path)


def test_unfinished_and_empty_runs_are_not_judged(score, line, text):
    """Neither a half rollout nor one of errors alone can pass a gate: exit code 3."""
    gates = [parse_gate("samples/total>=0")]
    for result in (
        score([line(text(), [])], {"status": "running"}),
        score([line(text(), [], error="x")]),
    ):
        with pytest.raises(RunIncomplete):
            check_run(result, gates, None, run="r")


@pytest.fixture
def score(tmp_path):
    def run(lines, meta=None):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "rollouts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
        (folder / "run.json").write_text(json.dumps({"format": "coordeval-run/1"} | (meta or {})))
        return score_run(open_run(folder))

    return run


@pytest.fixture
def line():
    return lambda answer, gt, **more: {
        "id": "a",
        "width": 9,
        "height": 9,
        "text": answer,
        "gt": gt,
        **more,
    }


@pytest.fixture
def text():
    return lambda: '{"objects": []}'


def test_intervals_from_the_file_are_those_of_the_two_runs(sound, broken, tmp_path):
    """Draw for draw, the stored statistics give what both runs give when they are resampled."""
    from coordeval.stats.replicates import replicate

    path = tmp_path / "b.json"
    write_baseline(make_baseline(sound, name="x"), path)
    intervals = Intervals(broken, read_baseline(path))
    ids = [entry.id for entry in broken.columns.images]
    assert ids == [entry.id for entry in sound.columns.images]
    place = np.argsort(np.argsort(ids))
    weights = draw_weights(len(ids), NUM_DRAWS, SEED, place)
    both = replicate([sound, broken], weights, coco_draws=COCO_DRAWS)
    keys = ("f1/0.50/f1", "f1/mean/f1", "coco/AP", "parse/drop_rate", "dup/loop_rate", "tokens/p90")
    for key in keys:
        change = both[1].values[key] - both[0].values[key]
        low, high = np.quantile(change[1:], [0.025, 0.975])
        assert intervals.of_change(key) == pytest.approx((low, high), abs=1e-12), key


def test_intervals_are_of_the_same_images(sound, tmp_path):
    """A run against itself, its lines in another order: every paired change is exactly 0."""
    folder = tmp_path / "reversed"
    folder.mkdir()
    (folder / "run.json").write_text((RUNS / "ckpt-300" / "run.json").read_text())
    lines = (RUNS / "ckpt-300" / "rollouts.jsonl").read_text().splitlines()
    (folder / "rollouts.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    intervals = Intervals(score_run(open_run(folder)), make_baseline(sound, name="x"))
    for key in ("f1/0.50/f1", "parse/objects_found", "count/error_abs_mean"):
        assert intervals.of_change(key) == pytest.approx((0, 0), abs=1e-12)
    low, high = intervals.of_value("f1/0.50/f1")
    assert low < sound.metrics["f1/0.50/f1"] < high
