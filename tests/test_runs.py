"""The run directory: lines survive a round trip, torn tails are redone, strangers are refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coordeval.coords import FRAMES
from coordeval.engines.rewrite import line_key
from coordeval.errors import DataError, RunLockedError, RunMismatchError
from coordeval.records import GroundTruthObject, Rollout
from coordeval.runs import RunWriter, iter_rollouts, open_run, rollout_from_json, rollout_to_json

FRAME = FRAMES["coordexp"]
GT = {"desc": "cat", "bbox_2d": [1, 1, 5, 5]}
IDENTITY = {"checkpoint": {"hash": "abc"}, "dialect": {"name": "coordjson"}, "frame": "coordexp"}


def rollout(name="a", **changes):
    values = {
        "id": name,
        "width": 64,
        "height": 48,
        "gt": (GroundTruthObject("cat", "bbox_2d", (1.0, 2.0, 3.5, 4.25), False, 3.0, 7),),
        "text": '{"objects": []}',
        "token_ids": [1, 2],
        "token_logprobs": [-0.5, -1e-7],
        "finish_reason": "stop",
    }
    return Rollout(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text": "lone \ud800 surrogate, NUL \x00, 猫"},
        {
            "gt": (GroundTruthObject("x", "poly", (0.1, 0.2, 3.0, 4.0, 5.0, 6.0), True),),
            "sample_index": 3,
        },
        {
            "finish_reason": "error",
            "error": "no image",
            "text": "",
            "token_ids": None,
            "token_logprobs": None,
        },
        {
            "scores": [0.5, 1.0],
            "guard": {"kind": "records", "onset": 3},
            "seconds": 0.25,
            "prompt_tokens": 12,
            "image_id": 9,
        },
    ],
)
def test_a_rollout_survives_its_line(tmp_path, changes):
    """What is written is read back equal, floats and odd Unicode included."""
    with RunWriter(tmp_path / "run", identity=IDENTITY, extra={}) as writer:
        writer.append([rollout(**changes)])
    [read] = open_run(tmp_path / "run").rollouts()
    assert read == rollout(**changes)


def test_a_torn_last_line_is_cut_and_redone(tmp_path):
    """After a crash inside a line, the finished lines stand and the torn one is not finished."""
    run = tmp_path / "run"
    with RunWriter(run, identity=IDENTITY, extra={}) as writer:
        writer.append([rollout("a"), rollout("b")])
    path = run / "rollouts.jsonl"
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole)):
        path.write_bytes(whole[:cut])
        with RunWriter(run, identity=IDENTITY, extra={}) as writer:
            assert writer.finished == {("a", 0)}
            writer.append([rollout("b")])
        assert path.read_bytes() == whole


def test_another_checkpoints_run_is_refused_and_left_alone(tmp_path):
    """A run of other settings is not touched; the message says what differs."""
    run = tmp_path / "run"
    with RunWriter(run, identity=IDENTITY, extra={}) as writer:
        writer.append([rollout()])
    before = {path.name: path.read_bytes() for path in run.glob("*.json*")}
    with pytest.raises(RunMismatchError, match="checkpoint"):
        RunWriter(run, identity=IDENTITY | {"checkpoint": {"hash": "other"}}, extra={})
    assert {path.name: path.read_bytes() for path in run.glob("*.json*")} == before


def test_one_writer_at_a_time(tmp_path):
    """A second process is refused while the first one writes, and let in after it."""
    run = tmp_path / "run"
    code = (
        "import sys; from coordeval.runs import RunWriter; from coordeval.errors import RunLockedError\n"
        f"identity = {IDENTITY!r}\n"
        "from pathlib import Path\n"
        "try:\n    RunWriter(Path(sys.argv[1]), identity=identity, extra={}).close()\n"
        "except RunLockedError:\n    sys.exit(2)\n"
    )
    with RunWriter(run, identity=IDENTITY, extra={}):
        assert subprocess.run([sys.executable, "-c", code, str(run)], check=False).returncode == 2
    assert subprocess.run([sys.executable, "-c", code, str(run)], check=False).returncode == 0


def test_a_bare_file_of_minimal_lines_is_a_run(tmp_path):
    """A line needs only id, width, height, gt and text."""
    path = tmp_path / "dump.jsonl"
    path.write_text(
        json.dumps({"id": 7, "width": 10, "height": 10, "gt": [], "text": "x"})
        + "\n\n"
        + json.dumps(
            {
                "id": "b",
                "width": 10,
                "height": 10,
                "gt": [
                    {
                        "desc": "a",
                        "bbox_2d": ["<|coord_0|>", "<|coord_0|>", "<|coord_999|>", "<|coord_999|>"],
                    }
                ],
                "text": "",
            }
        )
        + "\n"
    )
    run = open_run(path)
    first, second = run.rollouts()
    assert (first.id, first.token_ids, run.is_directory) == ("7", None, False)
    assert second.gt[0].values_px == (0.0, 0.0, 9.0, 9.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "JSON object"),
        ('{"id": "a"}', "'width' is missing"),
        ('{"id": "a", "width": 0, "height": 1, "gt": [], "text": ""}', "'width' must be"),
        ('{"id": "a", "width": true, "height": 1, "gt": [], "text": ""}', "'width' must be"),
        ('{"id": null, "width": 1, "height": 1, "gt": [], "text": ""}', "'id'"),
        ('{"id": "a", "width": 1, "height": 1, "gt": {}, "text": ""}', "'gt' must be a list"),
        (
            '{"id": "a", "width": 1, "height": 1, "gt": [{"desc": "x"}], "text": ""}',
            r"gt\[0\]: exactly one",
        ),
        ('{"id": "a", "width": 1, "height": 1, "gt": [], "text": 5}', "'text'"),
        (
            '{"id": "a", "width": 1, "height": 1, "gt": [], "text": "", "finish_reason": "eos"}',
            "finish_reason",
        ),
        ('{"id": "a", "width": 1, "height": 1, "gt": [], "text": "", "scores": ["x"]}', "'scores'"),
        (
            '{"id": "a", "width": 1, "height": 1, "gt": [], "text": "", "sample_index": -1}',
            "sample_index",
        ),
        ('{"id": NaN}', "not a JSON line"),
        ('{"id": ', "not a JSON line"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path, line, message):
    """Whatever is wrong with a line, the error says the file, the line and the fault."""
    path = tmp_path / "dump.jsonl"
    good = json.dumps({"id": "ok", "width": 1, "height": 1, "gt": [], "text": ""})
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(DataError, match=message) as error:
        list(iter_rollouts(path, FRAME))
    assert f"{path}:2: " in str(error.value)


def test_optional_fields_that_are_null_are_not_there(tmp_path):
    """A table written as lines has a null for every gap: that says as much as no key at all."""
    line = {"id": "a", "width": 10, "height": 10, "text": "", "gt": [dict(GT, iscrowd=None)]}
    optional = ("sample_index", "coord_space", "frame", "image", "image_id", "finish_reason")
    optional += ("token_ids", "token_logprobs", "scores", "error", "guard", "seconds")
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line | dict.fromkeys(optional)) + "\n")
    [read] = open_run(path).rollouts()
    path.write_text(json.dumps(line | {"gt": [GT]}) + "\n")
    assert [read] == list(open_run(path).rollouts())
    assert line_key(line | {"sample_index": None}) == ("a", 0)


@pytest.mark.parametrize("space", ["bin", "norm1000", "", 5, [], "Bins"])
def test_an_unknown_space_of_coordinates_is_not_taken_for_pixels(tmp_path, space):
    """As in a dataset: pixels or bins, and nothing is guessed of anything else."""
    line = {"id": "a", "width": 10, "height": 10, "text": "", "gt": [GT], "coord_space": space}
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=r"lines.jsonl:1: 'coord_space' must be"):
        list(open_run(path).rollouts())


def test_a_path_that_is_not_unicode_is_stored_and_compared(tmp_path):
    """A checkpoint's folder with any bytes in its name makes a run, resumes, and is told apart."""
    identity = IDENTITY | {"checkpoint": {"path": "ckpt-\udcff"}}
    for _ in range(2):
        with RunWriter(tmp_path, identity=identity, extra={}):
            pass
    assert open_run(tmp_path).meta["checkpoint"] == {"path": "ckpt-\udcff"}
    with pytest.raises(RunMismatchError, match=r"ckpt-\\udcff"):
        RunWriter(tmp_path, identity=IDENTITY | {"checkpoint": {"path": "other"}}, extra={})


def test_what_is_no_run_is_said_clearly(tmp_path):
    """A missing path, a folder without run.json and an unknown format each say what they are."""
    with pytest.raises(DataError, match="no such run"):
        open_run(tmp_path / "absent")
    with pytest.raises(DataError, match="not a run directory"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"format": "coordeval-run/9"}')
    with pytest.raises(DataError, match="coordeval-run/1"):
        open_run(tmp_path)


def test_fields_without_a_value_are_left_out_of_the_line():
    """A line does not carry nulls."""
    line = rollout_to_json(rollout(image=None, error=None))
    assert None not in line.values()
    assert rollout_from_json(line, FRAME) == rollout()


def test_two_lock_holders_in_one_process_are_refused(tmp_path):
    """Opening a run twice says that it is being written."""
    with RunWriter(tmp_path / "run", identity=IDENTITY, extra={}), pytest.raises(RunLockedError):
        RunWriter(tmp_path / "run", identity=IDENTITY, extra={})


@pytest.mark.parametrize(
    ("stored", "found"),
    [("/data/images", "/data/images"), ("../scenes", "RUN/../scenes"), (None, None), (5, None)],
)
def test_stored_paths_are_absolute_or_relative_to_the_run(tmp_path, stored, found):
    """A run that moves together with its images finds them, whatever the working folder."""
    run = tmp_path / "run"
    identity = IDENTITY | {"dataset": {"path": stored, "sha256": "x"}}
    with RunWriter(run, identity=identity, extra={"image_root": stored}):
        pass
    opened = open_run(run)
    expected = None if found is None else Path(found.replace("RUN", str(run)))
    assert opened.image_root == opened.dataset_path == expected


def test_two_classes_of_one_id_are_refused(tmp_path):
    """AP knows a class by its id: two names under one would count as right what is wrong."""
    classes = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]
    head = {"format": "coordeval-run/1", "categories": classes}
    (tmp_path / "run.json").write_text(json.dumps(head))
    (tmp_path / "rollouts.jsonl").write_text("")
    with pytest.raises(DataError, match="two names the id 1"):
        _ = open_run(tmp_path).categories
