"""`coordeval inspect --worse-than`: which samples another run does better, and when none can be."""

import json

import pytest
from typer.testing import CliRunner

from coordeval.cli.app import app
from coordeval.errors import NotComparable

TRUTH = [{"desc": "cat", "bbox_2d": [0, 0, 50, 50]}]


def record(*bins):
    values = ", ".join(f"<|coord_{k}|>" for k in bins)
    return '{"objects": [{"desc": "cat", "bbox_2d": [' + values + "]}]}"


def write(path, ids, bins, gt=TRUTH):
    lines = [
        {"id": key, "width": 100, "height": 100, "gt": gt, "text": record(*bins)} for key in ids
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def poor(tmp_path):
    return write(tmp_path / "poor.jsonl", "abc", (600, 600, 900, 900))


def invoke(run, other):
    arguments = ["inspect", str(run), "--worse-than", str(other), "--json"]
    return CliRunner().invoke(app, arguments)


def test_what_the_other_run_does_better_is_listed(poor, tmp_path):
    """Samples with a better partner are listed; those without a partner are not."""
    good = write(tmp_path / "good.jsonl", "bc", (0, 0, 505, 505))
    assert [row["id"] for row in json.loads(invoke(poor, good).output)] == ["b", "c"]
    assert json.loads(invoke(good, poor).output) == []


def test_runs_without_a_common_id_do_not_compare(poor, tmp_path):
    """An empty list would say that no sample is worse: exit code 4 instead."""
    other = write(tmp_path / "other.jsonl", "xyz", (0, 0, 505, 505))
    result = invoke(poor, other)
    assert isinstance(result.exception, NotComparable)
    assert result.exception.exit_code == 4


def test_another_ground_truth_does_not_compare(poor, tmp_path):
    """Counts against other boxes say nothing about the answers: exit code 4."""
    moved = [{"desc": "cat", "bbox_2d": [0, 0, 50, 51]}]
    other = write(tmp_path / "other.jsonl", "abc", (0, 0, 505, 505), moved)
    result = invoke(poor, other)
    assert isinstance(result.exception, NotComparable)
    assert "another ground truth" in str(result.exception)
