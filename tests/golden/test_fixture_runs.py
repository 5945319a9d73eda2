"""The recorded runs and dumps: frozen numbers, the story they tell, and that they can be made again."""

import json
from pathlib import Path

import pytest

from coordeval.metrics.score import METRICS_VERSION, score_run
from coordeval.parsers import PARSER_VERSION, dialect_named
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
STORY = ("shapes-final", "ckpt-300", "ckpt-2400")
RUNS = (*STORY, "ckpt-loops", "ckpt-polygons")
EXPECTED = FIXTURES / "expected" / f"{PARSER_VERSION}.{METRICS_VERSION}"
NAMES = sorted(path.stem for path in EXPECTED.glob("*.json"))


def scored(name):
    path = FIXTURES / "runs" / name if name in RUNS else FIXTURES / "dumps" / f"{name}.jsonl"
    dialect = dialect_named("object-map") if name == "object-map" else None
    return score_run(open_run(path), dialect=dialect)


def test_every_run_and_dump_has_frozen_numbers():
    """No fixture is left out, and the numbers belong to this version of parser and metrics."""
    dumps = {path.stem for path in (FIXTURES / "dumps").glob("*.jsonl")}
    assert set(NAMES) == dumps | set(RUNS)
    assert len(dumps) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_a_recording_do_not_change(name):
    """Same text, same numbers; a change on purpose raises a version and freezes anew."""
    expected = json.loads((EXPECTED / f"{name}.json").read_text())
    got = scored(name)
    assert got.status == expected["status"]
    assert got.score_source == expected["score_source"]
    assert set(got.metrics) == set(expected["metrics"])
    for key, value in expected["metrics"].items():
        assert got.metrics[key] == (value if value is None else pytest.approx(value, abs=1e-9)), key


def test_the_three_checkpoints_tell_the_story():
    """One is good, the earlier one is sound, the later one has come apart in every way taught."""
    final, early, late = (scored(name).metrics for name in STORY)
    assert final["f1/0.50/f1"] >= 0.9
    assert early["f1/0.50/f1"] >= 0.8
    assert early["samples/conforming_rate"] == final["samples/conforming_rate"] == 1.0
    assert late["f1/0.50/recall"] < early["f1/0.50/recall"] - 0.1
    assert late["coco/AP"] < early["coco/AP"]
    assert late["parse/detail/wrong_arity/foreign_token"] >= 20
    assert late["parse/dropped/unexpected_keys"] >= 4
    assert late["dup/loop_samples"] >= 4
    assert late["dup/wasted_tokens"] > 500
    assert late["samples/truncated_rate"] > 0.05


def test_the_looping_checkpoint_only_loops():
    """It finds what is there, then repeats records exactly, in blocks and nearly, to the limit."""
    metrics = scored("ckpt-loops").metrics
    assert 0.3 <= metrics["samples/truncated_rate"] <= 0.5
    assert metrics["f1/0.50/recall"] >= 0.8
    assert metrics["f1/0.50/precision"] < 0.6
    assert metrics["dup/loop_samples"] >= 4
    assert metrics["dup/near_objects"] >= 30
    # A last record that the limit cuts is all that is lost.
    assert metrics["parse/dropped_invalid"] == metrics["parse/dropped/truncated_record"]


def test_honest_scenes_of_the_looping_checkpoint_are_good():
    """Over the scenes that end by themselves F1 is at least 0.8."""
    run = open_run(FIXTURES / "runs" / "ckpt-loops")
    honest = {line.id for line in run.rollouts() if line.finish_reason == "stop"}
    table = scored("ckpt-loops").per_image
    rows = table[table["id"].isin(honest)]
    tp, fp, fn = (int(rows[f"{name}@0.50"].sum()) for name in ("tp", "fp", "fn"))
    assert len(honest) >= 30
    assert 2 * tp / (2 * tp + fp + fn) >= 0.8


def test_the_polygon_checkpoint_writes_outlines_with_faults():
    """Its outlines match well by their areas; some lack a coordinate, some a point."""
    metrics = scored("ckpt-polygons").metrics
    assert metrics["f1/0.50/precision"] >= 0.9
    assert metrics["coco_segm/AP"] >= 0.4
    assert metrics["parse/detail/wrong_arity/odd_count"] >= 5
    assert metrics["parse/detail/wrong_arity/too_few"] >= 1
    assert metrics["samples/conforming_rate"] >= 0.5


@pytest.mark.slow
def test_a_recording_can_be_made_again(tmp_path):
    """Decoding the checkpoint anew gives the recorded texts, but for what floating point decides."""
    from coordeval.engines.job import rollout_checkpoint
    from coordeval.engines.options import RolloutOptions

    options = RolloutOptions(
        checkpoint=str(FIXTURES / "ckpt-2400"),
        data=FIXTURES / "scenes" / "heldout.jsonl",
        runs_dir=tmp_path,
        out=tmp_path / "run",
        limit=16,
        batch_size=16,
        dtype="fp32",
        device="cpu",
        max_new_tokens=256,
    )
    assert rollout_checkpoint(options).exit_code(0) == 0
    recorded = {r.id: r.text for r in open_run(FIXTURES / "runs" / "ckpt-2400").rollouts()}
    again = {r.id: r.text for r in open_run(tmp_path / "run").rollouts()}
    assert len(again) == 16
    assert sum(recorded[name] == text for name, text in again.items()) >= 14
