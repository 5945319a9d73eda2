"""Promises about `coordeval probe` as a person meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from coordeval.cli.probe import probe
from coordeval.errors import CoordevalError

FIXTURES = Path(__file__).parents[2] / "fixtures"
CKPT = FIXTURES / "ckpt-2400"

APP = typer.Typer()
APP.command("probe")(probe)


def call(*arguments):
    """Exit code, stdout, stderr; user faults as the main program prints them."""
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if isinstance(result.exception, CoordevalError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A copy of a recorded run that finds the scenes where they are."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(FIXTURES / "runs" / "ckpt-2400", folder)
    meta = json.loads((folder / "run.json").read_text())
    meta["dataset"]["path"] = str(FIXTURES / "scenes" / "heldout.jsonl")
    meta["image_root"] = str(FIXTURES / "scenes")
    (folder / "run.json").write_text(json.dumps(meta))
    return folder


def test_both_contexts_stand_side_by_side(run):
    """The report names both contexts, is plain without a terminal, and the files lie in the run."""
    code, out, err = call(CKPT, run, "--limit", 4, "--batch-size", 4)
    assert code == 0
    assert "ground truth context: 4 texts" in out
    assert "own rollout context: 4 texts" in out
    assert "expected_bin_mae (bins)" in out
    assert "\x1b[" not in out
    assert "probe 4/4" in err
    (folder,) = (run / "probe").iterdir()
    assert folder.name.startswith("ckpt-2400-")
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "probe.json",
        "slots.parquet",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["contexts"]) == {"ground_truth", "own_rollout"}
    assert metrics["metrics"] == metrics["contexts"]["ground_truth"]["metrics"]
    settings = json.loads((folder / "probe.json").read_text())
    assert settings["checkpoint"]["hash"] == settings["run"]["checkpoint"]["hash"]
    assert settings["versions"]["coordeval"]


def test_json_is_one_document_and_the_same_again(run):
    """--json prints metrics.json alone on stdout; the same command replaces the same folder."""
    first = call(CKPT, run, "--limit", 2, "--json", "--texts", "gt")
    second = call(CKPT, run, "--limit", 2, "--json", "--texts", "gt")
    document = json.loads(first[1])
    assert document["metrics"]["coord_diag/expected_bin_mae"] > 0
    assert document == json.loads(second[1])
    assert len(list((run / "probe").iterdir())) == 1
    assert Path(document["probe"], "metrics.json").is_file()


def test_a_bare_file_is_printed_and_stored_only_where_asked(run, tmp_path):
    """A bare file needs --data; nothing is written beside it without --out."""
    bare = tmp_path / "bare" / "lines.jsonl"
    bare.parent.mkdir()
    lines = (run / "rollouts.jsonl").read_text().splitlines(keepends=True)
    bare.write_text("".join(lines[:2]))
    code, _, message = call(CKPT, bare)
    assert code == 2
    assert "--data" in message
    data = FIXTURES / "scenes" / "heldout.jsonl"
    code, out, _ = call(CKPT, bare, "--data", data, "--json")
    assert code == 0
    assert json.loads(out)["probe"] is None
    assert list(bare.parent.iterdir()) == [bare]
    assert call(CKPT, bare, "--data", data, "--out", tmp_path / "kept")[0] == 0
    assert (tmp_path / "kept" / "slots.parquet").is_file()


def test_errors_decide_the_exit_code(run, tmp_path):
    """A text that fails is exit code 3 unless --max-errors allows it, and is named."""
    scenes = tmp_path / "scenes"
    shutil.copytree(FIXTURES / "scenes", scenes)
    lines = (scenes / "heldout.jsonl").read_text().splitlines()
    (scenes / json.loads(lines[0])["image"]).unlink()
    arguments = (CKPT, run, "--limit", 2, "--data", scenes / "heldout.jsonl", "--texts", "gt")
    code, out, err = call(*arguments)
    assert code == 3
    assert "1 text could not be probed" in out
    assert "--max-errors 0" in err
    assert call(*arguments, "--max-errors", 1)[0] == 0


def test_faults_of_the_user_are_exit_code_2(run, tmp_path):
    """A wrong checkpoint, run or device is refused in one line."""
    assert call(tmp_path / "nothing", run)[0] == 2
    assert call(CKPT, tmp_path / "nothing")[0] == 2
    code, _, message = call(CKPT, run, "--device", "toaster")
    assert code == 2
    assert "toaster" in message
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    code, _, message = call(CKPT, empty, "--data", FIXTURES / "scenes" / "heldout.jsonl")
    assert code == 3
    assert "nothing to probe" in message


def test_defaults_come_from_coordeval_toml(run):
    """Data that a bare file lacks, and [decode] batch_size, are taken from coordeval.toml."""
    bare = run.parent / "bare.jsonl"
    bare.write_text((run / "rollouts.jsonl").read_text().splitlines(keepends=True)[0])
    data = FIXTURES / "scenes" / "heldout.jsonl"
    (run.parent / "coordeval.toml").write_text(f'data = "{data}"\n[decode]\nbatch_size = 2\n')
    code, out, _ = call(CKPT, bare, "--out", "kept", "--json")
    assert code == 0
    assert json.loads(out)["contexts"]["ground_truth"]["texts"] == 1
    settings = json.loads(Path("kept", "probe.json").read_text())
    assert settings["environment"]["batch_size"] == 2
    (run.parent / "coordeval.toml").write_text('[decode]\nbatch_size = "2"\n')
    code, _, message = call(CKPT, run)
    assert code == 2
    assert "batch_size must be int" in message


def test_what_texts_hold_cannot_reach_the_terminal(run):
    """Escape sequences in ids are shown, not obeyed."""
    lines = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()[:2]]
    lines[0] |= {"id": "\x1b[31mred", "image": "images/none.png"}
    (run / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    meta = json.loads((run / "run.json").read_text())
    meta["dataset"]["path"] = "gone.jsonl"
    (run / "run.json").write_text(json.dumps(meta))
    code, out, _ = call(CKPT, run)
    assert code == 3
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
