"""`coordeval inspect --sample-index`: other samples, and what is said where there are none."""

import json

import pytest
from typer.testing import CliRunner

from coordeval.cli.app import app
from coordeval.errors import ConfigError


@pytest.fixture
def run_path(tmp_path):
    def record(x):
        values = ", ".join(f"<|coord_{k}|>" for k in (x, 0, 500, 500))
        return '{"objects": [{"desc": "cat", "bbox_2d": [' + values + "]}]}"

    lines = [
        {"id": "0017", "width": 100, "height": 100, "gt": [], "text": record(x), "sample_index": n}
        for n, x in enumerate((10, 20, 30))
    ]
    (tmp_path / "run.json").write_text('{"format": "coordeval-run/1"}')
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def invoke(*args):
    return CliRunner().invoke(app, ["inspect", *map(str, args)])


def test_each_sample_shows_its_own_text(run_path):
    """Index N shows the N-th rollout of the image; without it the headline."""
    for number, bin_index in enumerate((10, 20, 30)):
        result = invoke(run_path, "0017", "--sample-index", number, "--json")
        assert result.exit_code == 0
        shown = json.loads(result.output)
        assert shown["sample_index"] == number
        assert f"<|coord_{bin_index}|>" in shown["text"]
    assert "<10>" in invoke(run_path, "0017").output


def test_the_list_names_the_command_for_that_sample(run_path):
    """The suggested command carries the sample index on."""
    output = invoke(run_path, "--sample-index", 2).output.replace("\n", "")
    assert "0017 --sample-index 2" in output


def test_a_missing_sample_is_said_with_those_that_are_there(run_path):
    """An index that the run does not hold is a usage error."""
    result = invoke(run_path, "--sample-index", 9)
    assert isinstance(result.exception, ConfigError)
    assert "no sample 9; it holds 0, 1, 2" in str(result.exception)
