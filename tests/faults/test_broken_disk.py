"""Disks and network mounts that fail in the middle: EIO, ESTALE, no locks; nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked_commands import files_of

EIO = "Input/output error"


def failing(name, ending, number=1, code="EIO"):
    return {"kind": "failing_call", "name": name, "ending": ending, "number": number, "code": code}


@pytest.mark.parametrize("number", [1, 2, 9, 16])
@pytest.mark.parametrize("code", ["EIO", "ENOSPC", "EDQUOT", "ESTALE"])
def test_a_batch_that_cannot_be_synced_is_not_there(
    number, code, commands, rollout_words, whole_run, tmp_path
):
    """Lines whose sync fails are taken back: only what is on the disk counts as finished."""
    out = tmp_path / "run"
    fault = failing("fsync", "rollouts.jsonl", number, code)
    ended = commands.run(*rollout_words(out), faults=[fault])
    assert ended.code == 3
    reason = os.strerror(getattr(errno, code))
    assert ended.error.startswith(f"error: {out}: cannot be written ({reason})")
    lines, expected = (
        (folder / "rollouts.jsonl").read_bytes().splitlines() for folder in (out, whole_run)
    )
    assert lines == expected[: 4 * (number - 1)]
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


@pytest.mark.parametrize(
    ("name", "ending", "code"),
    [
        ("fsync", ".tmp", 2),  # run.json cannot be stored: nothing is begun
        ("open", "run/rollouts.jsonl", 2),
        ("rename", "run.json", 0),  # os.replace is what is used: this one is never called
        ("replace", ".tmp", 2),
        ("mkdir", "run", 2),
    ],
)
def test_whatever_fails_at_the_start_is_one_line(
    name, ending, code, commands, rollout_words, whole_run, tmp_path
):
    """A call that fails before the first line: exit code 2, and the folder can be used later."""
    out = tmp_path / "run"
    ended = commands.run(*rollout_words(out), faults=[failing(name, ending)])
    assert ended.code == code
    if code:
        assert ended.error.startswith(f"error: {out}: cannot be written: {EIO}")
        assert not (out / "rollouts.jsonl").exists() or not (out / "rollouts.jsonl").read_bytes()
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


def test_an_end_that_cannot_be_stored_is_stored_by_the_next_command(
    commands, rollout_words, whole_run, tmp_path
):
    """All lines are there but run.json cannot be replaced: exit code 3, then 0 without decoding."""
    out = tmp_path / "run"
    ended = commands.run(*rollout_words(out), faults=[failing("replace", ".tmp", 2)])
    assert ended.code == 3
    assert EIO in ended.error
    assert (out / "rollouts.jsonl").read_bytes() == (whole_run / "rollouts.jsonl").read_bytes()
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


@pytest.mark.parametrize("verb", ["score", "inspect", "report", "compare", "check", "attribute"])
@pytest.mark.parametrize("after", [0, 5])
def test_a_bad_block_in_the_lines_is_named(verb, after, commands, run):
    """Reading fails in the middle of rollouts.jsonl: the file is named, exit code 2."""
    words = (verb, run, run) if verb == "compare" else (verb, run)
    fault = {"kind": "failing_read", "ending": "run/rollouts.jsonl", "after": after}
    ended = commands.run(*words, faults=[fault])
    path = run / "rollouts.jsonl"
    assert (ended.code, ended.error) == (2, f"error: {path}: cannot be read: {EIO}")
    assert not (run / "score").exists()


def test_a_bad_block_does_not_make_finished_lines_anew(commands, rollout_words, run, whole_run):
    """A resume that cannot read what is finished stops; it does not take it for missing."""
    fault = {"kind": "failing_read", "ending": "run/rollouts.jsonl", "after": 5}
    ended = commands.run(*rollout_words(run), faults=[fault])
    assert ended.code == 2
    assert f"{run / 'rollouts.jsonl'}: cannot be read: {EIO}" in ended.error
    assert files_of(run) == files_of(whole_run)


@pytest.mark.parametrize("name", ["run.json", "heldout.jsonl"])
def test_other_files_that_cannot_be_read_are_named(name, commands, rollout_words, run, whole_run):
    """run.json and the dataset: path and reason, exit code 2, nothing changed."""
    fault = {"kind": "failing_read", "ending": name, "after": 0}
    ended = commands.run(*rollout_words(run), faults=[fault])
    assert ended.code == 2
    assert name in ended.error
    assert EIO in ended.error
    assert files_of(run) == files_of(whole_run)


@pytest.mark.parametrize("code", ["ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EUCLEAN"])
@pytest.mark.parametrize("verb", ["score", "check", "report"])
def test_a_mount_that_is_gone_is_one_line(verb, code, commands, run):
    """Not even a look at the folder succeeds, as on a mount whose server has gone: path, reason."""
    ended = commands.run(verb, run, faults=[failing("stat", f"/{run.name}", code=code)])
    reason = os.strerror(getattr(errno, code))
    assert (ended.code, ended.error) == (2, f"error: {run}: {reason}")


@pytest.mark.parametrize("verb", ["score", "compare", "report", "rollout"])
def test_a_working_folder_that_is_gone_is_one_line(verb, commands, rollout_words, run, tmp_path):
    """A shell whose folder was removed: said so, not taken for a bug."""
    folder = tmp_path / "gone"
    folder.mkdir()
    words = {"compare": (verb, run, run), "rollout": rollout_words(tmp_path / "out")}
    fault = {"kind": "no_working_folder"}
    ended = commands.run(*words.get(verb, (verb, run)), cwd=folder, faults=[fault])
    said = "error: the working folder is gone: go to one that is there"
    assert (ended.code, ended.error) == (2, said)


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_mount_without_locks_is_refused(code, commands, rollout_words, tmp_path):
    """Where nobody can be kept out nothing is written: NFS without a lock service, Lustre."""
    out = tmp_path / "run"
    fault = {"kind": "failing_lock", "code": code}
    ended = commands.run(*rollout_words(out), faults=[fault])
    reason = os.strerror(getattr(errno, code))
    assert (ended.code, ended.error) == (2, f"error: {out}: cannot be written: {reason}")
    assert ended.stderr.count("\n") == 1


def test_a_run_whose_folder_vanishes_says_so(commands, rollout_words, tmp_path):
    """Somebody removes the folder in mid-run: one line, exit code 3."""
    out = tmp_path / "run"
    fault = {"kind": "stop_at_change", "under": str(out), "number": 25}
    child = commands.start(*rollout_words(out), faults=[fault])
    deadline = time.monotonic() + 60
    while "State:\tT" not in Path(f"/proc/{child.pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shutil.rmtree(out)
    os.kill(child.pid, signal.SIGCONT)
    ended = commands.wait(child)
    assert ended.code in {2, 3}
    assert str(out) in ended.error
