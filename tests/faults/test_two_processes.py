"""Two processes and one run directory: the second is refused, the first does not notice."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from forked_commands import FIXTURES, files_of, killed_at

REFUSED = "another process is writing this run"


@pytest.fixture
def standing_still(commands, rollout_words, tmp_path):
    """A rollout that was stopped in its middle and holds its folder; continued at the end."""
    out = tmp_path / "run"
    fault = {"kind": "stop_at_change", "under": str(out), "number": 25}
    child = commands.start(*rollout_words(out), faults=[fault])
    wait_until_stopped(child)
    yield out, child
    try:
        os.kill(child.pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def _status(pid):
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii")


def wait_until_stopped(child):
    deadline = time.monotonic() + 60
    while "State:\tT" not in _status(child.pid):
        assert time.monotonic() < deadline, "the command never stopped"
        time.sleep(0.01)


def finish(commands, child):
    os.kill(child.pid, signal.SIGCONT)
    return commands.wait(child)


def test_a_second_rollout_is_refused_and_the_first_unharmed(
    commands, rollout_words, whole_run, standing_still
):
    """Every command that would write there ends with 2 and the reason; the first one completes."""
    out, child = standing_still
    before = files_of(out)
    for words in (
        rollout_words(out),
        (*rollout_words(out), "--retry-errors"),
        (*rollout_words(out), "--frame", "unit-1000"),
        ("import", FIXTURES / "dumps" / "wrapped.jsonl", "--out", out),
    ):
        ended = commands.run(*words)
        assert ended.code == 2
        assert ended.error.startswith(f"error: {out}: {REFUSED}")
    assert files_of(out) == before
    first = finish(commands, child)
    assert first.code == 0, first.stderr
    assert files_of(out) == files_of(whole_run)


def test_readers_may_look_while_a_run_is_written(
    commands, rollout_words, whole_run, standing_still, tmp_path
):
    """Scores of a run that is being written are partial, and do not disturb it."""
    out, child = standing_still
    ended = commands.run("score", out, "--json", "--out", tmp_path / "score")
    assert (ended.code, json.loads(ended.stdout)["status"]) == (0, "partial")
    assert commands.run("check", out, "--gate", "f1/0.50/f1>=0").code == 3
    assert finish(commands, child).code == 0
    assert files_of(out) == files_of(whole_run)


def test_a_dead_process_holds_nothing(commands, rollout_words, whole_run, tmp_path):
    """The lock of a process that was killed does not stand in the way, whatever is in its file."""
    out = tmp_path / "run"
    assert commands.run(*rollout_words(out), faults=[killed_at(20, out)]).code == -signal.SIGKILL
    (out / ".lock").write_text(f"{os.getpid()}\nsome-host\n")
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


def test_a_stopped_process_that_is_killed_gives_its_folder_free(
    commands, rollout_words, whole_run, standing_still
):
    """Refused while it stands still, let in as soon as it is dead."""
    out, child = standing_still
    assert commands.run(*rollout_words(out)).code == 2
    os.kill(child.pid, signal.SIGKILL)
    assert commands.wait(child).code == -signal.SIGKILL
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


def test_many_at_once_leave_one_run(commands, rollout_words, whole_run, tmp_path):
    """Of six that start together, those that come too early are refused; the run is whole."""
    out = tmp_path / "run"
    children = [commands.start(*rollout_words(out)) for _ in range(6)]
    ended = [commands.wait(child) for child in children]
    codes = [end.code for end in ended]
    assert set(codes) <= {0, 2}
    assert 0 in codes
    assert all(REFUSED in end.error for end in ended if end.code == 2)
    assert files_of(out) == files_of(whole_run)


def test_scores_at_once_are_of_one_scoring(commands, run):
    """Two scores of one run at once: whole files, and no temporary one is left."""
    assert commands.run("score", run).code == 0
    expected = files_of(run)
    children = [commands.start("score", run) for _ in range(4)]
    assert [commands.wait(child).code for child in children] == [0, 0, 0, 0]
    assert files_of(run) == expected


@pytest.mark.parametrize("before_the_end", [7, 8, 9])
def test_scores_of_two_settings_at_once_are_not_mixed(before_the_end, commands, run):
    """One scoring stands still between two of its files: what is left is all of one scoring."""
    expected = []
    for source in ("order", "constant"):
        words = ("score", run, "--scores", source)
        changes = commands.number_of_changes(*words, under=run / "score")
        expected.append(files_of(run))
    number = changes - before_the_end
    fault = {"kind": "stop_at_change", "under": str(run / "score"), "number": number}
    first = commands.start(*words, faults=[fault])
    wait_until_stopped(first)
    second = commands.start("score", run, "--scores", "order")
    deadline, code = time.monotonic() + 1, None
    while code is None and time.monotonic() < deadline:
        time.sleep(0.02)
        code = commands.poll(second)
    os.kill(first.pid, signal.SIGCONT)
    assert commands.wait(first).code == 0
    assert (commands.wait(second).code if code is None else code) == 0
    assert files_of(run) in expected


def test_a_second_merge_or_import_into_a_busy_folder_is_refused(
    commands, rollout_words, standing_still, tmp_path
):
    """A folder that is being written is no target for a merge."""
    out, child = standing_still
    shards = [tmp_path / f"shard{number}" for number in range(2)]
    for number, shard in enumerate(shards):
        assert commands.run(*rollout_words(shard, "--shard", f"{number}/2")).code == 0
    ended = commands.run("merge", *shards, "--out", out)
    assert ended.code == 2
    assert "already holds a run" in ended.error
    assert finish(commands, child).code == 0
