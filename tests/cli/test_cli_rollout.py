"""Promises about `coordeval rollout` and `coordeval merge` as a person meets them."""

from __future__ import annotations

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from coordeval.cli.merge import merge
from coordeval.cli.rollout import rollout
from coordeval.cli.rollout_progress import describe_progress
from coordeval.engines.progress import Progress
from coordeval.errors import CoordevalError

APP = typer.Typer()
APP.command("rollout")(rollout)
APP.command("merge")(merge)


def call(*arguments):
    """Exit code, stdout, stderr; user faults as the main program prints them."""
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if isinstance(result.exception, CoordevalError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A working folder with four images, their dataset, and a recording of all of them."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    images = tmp_path / "photos"
    images.mkdir()
    records, recorded = [], []
    for index in range(4):
        Image.new("RGB", (64, 48), (40 * index, 90, 30)).save(images / f"{index}.png")
        gt = [{"desc": "cat", "bbox_2d": [1, 2, 30, 40]}]
        size = {"width": 64, "height": 48}
        records.append({"id": f"im{index}", "image": f"{index}.png", "objects": gt} | size)
        text = '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, '
        text += "<|coord_3|>, <|coord_4|>]}]}"
        recorded.append({"id": f"im{index}", "gt": gt, "text": text} | size)
    for name, rows in (("data.jsonl", records), ("recording.jsonl", recorded)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def replay(*arguments):
    return call("rollout", "recording.jsonl", "--engine", "replay", "--no-score", *arguments)


def test_without_data_it_says_which_file_to_write(world):
    """No data anywhere is exit code 2 and names coordeval.toml."""
    with pytest.raises(CoordevalError, match=r"coordeval\.toml"):
        raise_fault("rollout", "recording.jsonl", "--engine", "replay")
    code, _, _ = call("rollout", "recording.jsonl", "--engine", "replay")
    assert code == 2


def raise_fault(*arguments):
    raise CliRunner().invoke(APP, list(arguments)).exception


def test_defaults_come_from_coordeval_toml(world):
    """With a coordeval.toml the bare command runs; options still win over it."""
    (world / "coordeval.toml").write_text(
        'data = "data.jsonl"\nframe = "unit-1000"\n[decode]\nlimit = 2\nseed = 4\nbatch_size = 1\n'
    )
    assert replay("--out", "a")[0] == 0
    meta = json.loads((world / "a" / "run.json").read_text())
    assert meta["frame"] == "unit-1000"
    assert (meta["selection"]["limit"], meta["decode"]["seed"]) == (2, 4)
    assert replay("--out", "b", "--limit", "3", "--frame", "coordexp")[0] == 0
    meta = json.loads((world / "b" / "run.json").read_text())
    assert (meta["frame"], meta["counts"]["finished"]) == ("coordexp", 3)


def test_a_wrong_type_in_the_decode_table_is_refused(world):
    """Numbers written as texts are not guessed at."""
    (world / "coordeval.toml").write_text('data = "data.jsonl"\n[decode]\nseed = "4"\n')
    code, _, message = replay()
    assert code == 2
    assert "[decode] seed" in message


def test_the_default_folder_stands_under_runs(world):
    """Without --out the run goes to runs/<checkpoint>-<hash>, and its path is printed."""
    code, out, err = replay("--data", "data.jsonl")
    assert code == 0
    assert out.strip().startswith("runs/recording.jsonl-")
    assert (world / out.strip() / "run.json").exists()
    assert "complete, 4 of 4" in err


def test_json_output_is_one_document_on_stdout(world):
    """--json leaves progress on stderr and one document on stdout."""
    code, out, err = replay("--data", "data.jsonl", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["counts"]["finished"] == 4
    assert "rollout 4/4" in err


def test_errors_decide_the_exit_code(world):
    """An error line is exit code 3 unless --max-errors allows it."""
    lines = (world / "recording.jsonl").read_text().splitlines(keepends=True)
    (world / "recording.jsonl").write_text("".join(lines[:3]))
    code, _, err = replay("--data", "data.jsonl", "--out", "run")
    assert code == 3
    assert "1 error" in err
    assert replay("--data", "data.jsonl", "--out", "run", "--max-errors", "1")[0] == 0


def test_shards_and_merge_work_from_the_command_line(world):
    """Two shards and a merge give all four rollouts."""
    for part in ("0/2", "1/2"):
        assert replay("--data", "data.jsonl", "--shard", part, "--out", f"s{part[0]}")[0] == 0
    code, out, _ = call("merge", "s0", "s1", "--out", "whole", "--json")
    assert code == 0
    assert json.loads(out)["counts"]["finished"] == 4
    code, _, message = call("merge", "s0", "s0", "--out", "other")
    assert code == 2
    assert "more than once" in message


def test_scores_are_printed_at_the_end(world):
    """Without --no-score the run is scored and its numbers printed."""
    code, out, _ = call(
        "rollout", "recording.jsonl", "--engine", "replay", "--data", "data.jsonl", "--json"
    )
    assert code == 0
    assert "f1/0.50/f1" in out


def test_progress_is_described_in_words_only_where_something_is_known():
    """Nothing is shown before there is something to show."""
    numbers = {"total": 10, "made": 0, "errors": 0, "tokens": 0, "seconds": 1.0}
    start = Progress(**numbers, done=0, objects_found=0, objects_valid=0)
    assert describe_progress(start) == ""
    later = numbers | {"made": 5, "tokens": 2000, "errors": 1, "seconds": 2.0}
    shown = describe_progress(Progress(**later, done=5, objects_found=8, objects_valid=6))
    assert shown == "1,000 tok/s  drops 25.0 %  errors 1  ETA 0:00:02"


@pytest.mark.slow
def test_a_checkpoint_rolls_out_resumes_and_refuses(world, tmp_path_factory):
    """A real checkpoint: error lines, resume, refusal of other settings, warning about tokens."""
    pytest.importorskip("torch")
    from coordeval.training.tiny.model import write_random_checkpoint

    folder = write_random_checkpoint(tmp_path_factory.mktemp("ckpt") / "tiny")
    command = ["rollout", folder, "--data", "data.jsonl", "--image-root", "photos", "--no-score"]
    command += ["--out", "run", "--device", "cpu"]
    short = [*command, "--max-new-tokens", "8"]
    broken = world / "photos" / "2.png"
    shutil.copy(broken, world / "kept.png")
    broken.write_bytes(b"no image")
    code, _, err = call(*short)
    assert code == 3
    assert "max-new-tokens 8 is too small" in err
    first = (world / "run" / "rollouts.jsonl").read_text().splitlines()
    shutil.copy(world / "kept.png", broken)
    code, _, _ = call(*short, "--retry-errors", "--batch-size", "1")
    assert code == 0
    again = (world / "run" / "rollouts.jsonl").read_text().splitlines()
    assert [again[index] for index in (0, 1, 3)] == [first[index] for index in (0, 1, 3)]
    assert json.loads(again[2])["finish_reason"] in {"stop", "length"}
    meta = json.loads((world / "run" / "run.json").read_text())
    assert meta["engine"] == {"name": "hf", "dtype": "fp32"}
    assert set(meta["vocabulary"]) == {"first"}
    code, _, message = call(*command, "--max-new-tokens", "9")
    assert code == 2
    assert "decode" in message
    code, _, message = call("rollout", "gone-checkpoint", "--data", "data.jsonl")
    assert code == 2
    assert "no such checkpoint folder" in message
    code, _, message = call("rollout", folder, "--data", "data.jsonl")
    assert code == 2
    assert "--image-root" in message


def test_what_failed_is_said_by_name_and_reason(world):
    """The first failed samples stand on stderr with their reasons, and how many more there are."""
    (world / "recording.jsonl").write_text("")
    code, _, message = replay("--data", "data.jsonl", "--out", "run")
    assert code == 3
    named = [row for row in message.splitlines() if row.startswith("error: im")]
    assert [row.split(": ")[1] for row in named] == ["im0", "im1", "im2"]
    assert all("recording" in row for row in named)
    assert "... and 1 more" in message
