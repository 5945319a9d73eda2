"""Twelve planted regressions of a recorded run: each is caught by name, and a re-run passes."""

import json
from pathlib import Path

import pytest

from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.stats.baseline import make_baseline
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import check_run

RECORDED = Path(__file__).parents[2] / "fixtures" / "runs" / "shapes-final"
GATES = [
    parse_gate(text)
    for text in (
        "coco/AP:-1pt",
        "f1/0.50/f1:-1pt",
        "f1_loc/0.50/f1:-1pt",
        "samples/conforming_rate:-1pt",
        "samples/truncated_rate:+1pt",
        "samples/empty_pred_rate:+1pt",
        "samples/errors:+0",
        "parse/drop_rate:+10%,+0.5pt",
        "parse/dropped/wrong_arity:+0",
        "dup/exact_rate:+0.5pt",
        "dup/loop_rate:+0.5pt",
        "count/unknown_class:+0",
        "count/error_abs_mean:+10%,+0.05",
        "tokens/mean:+20%",
    )
]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def some(lines, step=4):
    """Every fourth answer that holds a record."""
    return [line for line in lines if '"bbox_2d"' in line["text"]][::step]


def drift_keys(lines):
    for line in some(lines):
        line["text"] = line["text"].replace("bbox_2d", "bbox_3d", 1)


def put_foreign_tokens(lines):
    for line in some(lines):
        line["text"] = line["text"].replace('"bbox_2d": [', '"bbox_2d": [第九, ', 1)


def lose_the_last_record(lines):
    for line in some(lines, 2):
        head, _, _ = line["text"].rpartition('{"desc"')
        line["text"] = head.rstrip(", ") + "]}"


def loop(lines):
    for line in some(lines, 8):
        head, _, last = line["text"].rpartition('{"desc"')
        record = '{"desc"' + last.removesuffix("]}")
        line["text"] = head + ", ".join([record] * 8) + "]}"


def repeat_once(lines):
    for line in some(lines):
        head, _, last = line["text"].rpartition('{"desc"')
        record = '{"desc"' + last.removesuffix("]}")
        line["text"] = head + record + ", " + record + "]}"


def talk_before(lines):
    for line in some(lines):
        line["text"] = "Sure, here they are: " + line["text"]


def cut(lines):
    for line in some(lines):
        line["text"] = line["text"][:-20]
        line["finish_reason"] = "length"


def say_nothing(lines):
    for line in some(lines):
        line["text"] = '{"objects": []}'


def swap_names(lines):
    for line in some(lines, 2):
        for old, new in (("red", "%"), ("blue", "red"), ("green", "blue"), ("%", "green")):
            line["text"] = line["text"].replace(old, new)


def invent_names(lines):
    for line in some(lines):
        line["text"] = line["text"].replace('"desc": "', '"desc": "very ', 1)


def fail_engine(lines):
    lines[0]["error"] = "out of memory"


def forget_tokens(lines):
    for line in lines:
        line.pop("token_ids", None)


PLANTED = {
    drift_keys: "parse/drop_rate",
    put_foreign_tokens: "parse/dropped/wrong_arity",
    lose_the_last_record: "coco/AP",
    loop: "dup/loop_rate",
    repeat_once: "dup/exact_rate",
    talk_before: "samples/conforming_rate",
    cut: "samples/truncated_rate",
    say_nothing: "samples/empty_pred_rate",
    swap_names: "f1/0.50/f1",
    invent_names: "count/unknown_class",
    fail_engine: "samples/errors",
    forget_tokens: "tokens/mean",
}


@pytest.fixture(scope="module")
def recorded():
    """The lines, with constant scores so that a changed text keeps its protocol."""
    lines = lines_of(RECORDED / "rollouts.jsonl")
    for line in lines:
        line.pop("token_logprobs", None)
    return lines


def scored(lines, folder):
    folder.mkdir()
    meta = json.loads((RECORDED / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(meta))
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return score_run(open_run(folder))


@pytest.fixture(scope="module")
def baseline(recorded, tmp_path_factory):
    return make_baseline(scored(recorded, tmp_path_factory.mktemp("base") / "r"), name="base")


def held(lines, baseline, tmp_path):
    return check_run(scored(lines, tmp_path / "r"), GATES, baseline, run="r", baseline_path="b")


def test_a_rerun_passes(recorded, baseline, tmp_path):
    """The same answers in another order, from another folder: every gate holds."""
    found = held(recorded[::-1], baseline, tmp_path)
    assert (found.verdict, found.exit_code) == ("pass", 0)
    assert len(found.outcomes) == len(GATES)
    assert all(outcome.status == "pass" for outcome in found.outcomes)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_regression_is_caught_by_name(plant, recorded, baseline, tmp_path):
    """The gate on what was broken fails, is listed first, and the exit code is 1."""
    lines = json.loads(json.dumps(recorded))
    plant(lines)
    assert lines != recorded
    found = held(lines, baseline, tmp_path)
    assert found.exit_code == 1
    assert PLANTED[plant] in {outcome.key for outcome in found.failing}
    statuses = [outcome.status for outcome in found.outcomes]
    assert statuses == ["fail"] * len(found.failing) + ["pass"] * (
        len(statuses) - len(found.failing)
    )


def test_a_value_that_vanished_says_so(recorded, baseline, tmp_path):
    """Null on one side only is a failure with its own words, not a difference."""
    lines = json.loads(json.dumps(recorded))
    forget_tokens(lines)
    found = held(lines, baseline, tmp_path)
    (outcome,) = [outcome for outcome in found.failing if outcome.key == "tokens/mean"]
    assert outcome.value is None
    assert "null" in outcome.reason
