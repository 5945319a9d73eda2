"""kill -9 during the other commands: every file is the old one or the new one, and again mends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
from forked_commands import FIXTURES, files_of, killed_at

DUMP = FIXTURES / "dumps" / "broken-records.jsonl"


def killed_at_every_change(commands, words, out, start, changes):
    """Kill the command before each of its changes, look, run it again; yields what a kill left."""
    for number in range(1, changes + 1):
        shutil.rmtree(out, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, out)
        ended = commands.run(*words, faults=[killed_at(number, out)])
        assert ended.code == -signal.SIGKILL
        yield number
        again = commands.run(*words)
        assert again.code == 0, again.stderr
        after = files_of(out)
        assert not [name for name in after if name.endswith(".tmp")], "a temporary file was left"


def test_a_killed_score_leaves_whole_files_of_one_scoring(commands, small_run, place):
    """Where metrics.json stands, all tables are there and of the same scoring; again completes."""
    start, out = place / "start", place / "out"
    shutil.copytree(small_run, start)
    assert commands.run("score", small_run).code == 0
    expected = files_of(small_run)
    # A score of other numbers stands there already, as after the run has grown.
    other = place / "other"
    shutil.copytree(FIXTURES / "runs" / "ckpt-2400", other)
    assert commands.run("score", other).code == 0
    shutil.copytree(other / "score", start / "score")
    old = {name: data for name, data in files_of(start).items() if name.startswith("score/")}
    new = {name: data for name, data in expected.items() if name.startswith("score/")}
    assert all(old[name] != new[name] for name in new)
    words = ("score", out)
    shutil.copytree(start, out)
    changes = commands.number_of_changes(*words, under=out)
    for _ in killed_at_every_change(commands, words, out, start, changes):
        left = {name: data for name, data in files_of(out).items() if name in new}
        assert all(data in (old[name], new[name]) for name, data in left.items())
        if "score/metrics.json" in left:
            assert left in (old, new)
    assert files_of(out) == expected
    assert changes >= 15


def test_a_killed_report_leaves_the_old_page_or_the_new_one(commands, small_run, place):
    """The page is never half a page, and a second command leaves nothing of the first."""
    (small_run / "report.html").write_text("the old page")
    start, out = place / "start", place / "out"
    shutil.copytree(small_run, start)
    words = ("report", out, "--thumbnails", 0)
    shutil.copytree(start, out)
    changes = commands.number_of_changes(*words, under=out)
    expected = files_of(out)
    for _ in killed_at_every_change(commands, words, out, start, changes):
        page = (out / "report.html").read_bytes()
        assert page in (b"the old page", expected["report.html"])
    assert files_of(out) == expected


def test_a_killed_import_goes_on(commands, place):
    """An import killed at any change is completed by the same command; no sample twice."""
    out = place / "run"
    words = ("import", DUMP, "--out", out)
    changes = commands.number_of_changes(*words, under=out)
    expected = files_of(out)
    for _ in killed_at_every_change(commands, words, out, None, changes):
        pass
    assert files_of(out) == expected


def test_a_killed_merge_goes_on(commands, rollout_words, whole_run, place):
    """A merge killed at any change is completed by the same command, and only by that one."""
    shards = [place / f"shard{number}" for number in range(2)]
    for number, shard in enumerate(shards):
        assert commands.run(*rollout_words(shard, "--shard", f"{number}/2")).code == 0
    out = place / "merged"
    words = ("merge", *shards, "--out", out)
    changes = commands.number_of_changes(*words, under=out)
    expected = files_of(out)
    assert expected["rollouts.jsonl"] == (whole_run / "rollouts.jsonl").read_bytes()
    endings = []
    for number in range(1, changes + 1):
        shutil.rmtree(out)
        assert commands.run(*words, faults=[killed_at(number, out)]).code == -signal.SIGKILL
        meta = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {}
        endings.append(meta.get("status"))
        if meta.get("status") == "running":
            other = commands.run("merge", *reversed(shards), "--out", out)
            assert (other.code, "already holds a run" in other.error) == (2, True)
        assert commands.run(*words).code == (2 if meta.get("status") == "complete" else 0)
        assert files_of(out) == expected
    assert set(endings) == {None, "running", "complete"}


@pytest.mark.parametrize("to", ["coco", "csv"])
def test_a_killed_export_is_made_again(to, commands, small_run, place):
    """An export killed at any change is as an undisturbed one after the same command."""
    out = place / "out"
    words = ("export", small_run, "--to", to, "-o", out / "x.csv" if to == "csv" else out)
    changes = commands.number_of_changes(*words, under=out)
    expected = files_of(out)
    for _ in killed_at_every_change(commands, words, out, None, changes):
        pass
    assert files_of(out) == expected


def test_a_killed_baseline_leaves_the_old_one_or_the_new_one(commands, small_run, place):
    """The command check --update-baseline never leaves half a baseline."""
    out = place / "out"
    start = place / "start"
    start.mkdir()
    (start / "base.json").write_text("old")
    words = ("check", small_run, "--baseline", out / "base.json", "--update-baseline")
    changes = commands.number_of_changes(*words, under=out)
    expected = files_of(out)
    for _ in killed_at_every_change(commands, words, out, start, changes):
        assert (out / "base.json").read_bytes() in (b"old", expected["base.json"])
    assert files_of(out) == expected


def test_a_killed_comparison_changes_nothing(commands, run, whole_run, tmp_path):
    """A comparison reads: two runs are as they were, whenever it dies."""
    before = files_of(run)
    assert commands.number_of_changes("compare", run, whole_run, under=tmp_path) == 0
    child = commands.start("compare", run, whole_run, "--json")
    time.sleep(0.15)
    os.kill(child.pid, signal.SIGKILL)
    commands.wait(child)
    assert files_of(run) == before
    document = json.loads(commands.run("compare", run, whole_run, "--json").stdout)
    assert document["runs"]
