"""Folders that cannot be written: told in one line; what only reads works all the same."""

from __future__ import annotations

import os
import shutil

import pytest
from forked_commands import FIXTURES, files_of

DUMP = FIXTURES / "dumps" / "broken-records.jsonl"
BOUND = {"kind": "bound_by_modes"}

READING = [
    ("inspect", "RUN"),
    ("inspect", "RUN", "0003"),
    ("compare", "RUN", "RUN"),
    ("check", "RUN", "--gate", "f1/0.50/f1>=0"),
    ("attribute", "RUN"),
    ("score", "RUN/rollouts.jsonl"),
]
WRITING = [
    (("score", "RUN"), "RUN/score"),
    (("report", "RUN", "--thumbnails", "0"), "RUN/report.html"),
    (("rollout",), "RUN"),
    (("rollout", "--retry-errors"), "RUN"),
    (("import", str(DUMP), "--out", "PLACE/imported"), "PLACE/imported"),
    (("merge", "SHARD0", "SHARD1", "--out", "PLACE/merged"), "PLACE/merged"),
    (("export", "RUN", "--to", "coco", "-o", "PLACE/coco"), "PLACE/coco"),
    (("export", "RUN", "--to", "csv", "-o", "PLACE/x.csv"), "PLACE/x.csv"),
    (("overlay", "RUN", "0001", "-o", "PLACE/x.svg"), "PLACE/x.svg"),
    (("check", "RUN", "--baseline", "PLACE/b.json", "--update-baseline"), "PLACE/b.json"),
    (("check", "RUN", "--gate", "f1/0.50/f1>=0", "--junit", "PLACE/j.xml"), "--junit PLACE/j.xml"),
]


@pytest.fixture
def shards(commands, rollout_words, tmp_path):
    """Two halves of the run."""
    made = [tmp_path / f"shard{number}" for number in range(2)]
    for number, shard in enumerate(made):
        assert commands.run(*rollout_words(shard, "--shard", f"{number}/2")).code == 0
    return made


def try_all(commands, rollout_words, place, shards, *, why, faults=()):
    """Run every command against a place that cannot be written; nothing in it may change."""
    run = place / "run"
    before = files_of(place)
    names = {"RUN": run, "PLACE": place, "SHARD0": shards[0], "SHARD1": shards[1]}

    def named(text):
        for name, path in names.items():
            text = text.replace(name, str(path))
        return text

    for words in READING:
        ended = commands.run(*map(named, words), faults=faults)
        assert ended.code == 0, (words, ended.stderr)
    for words, target in WRITING:
        arguments = [named(word) for word in words]
        if words[0] == "rollout":
            arguments = [*rollout_words(run), *words[1:]]
        ended = commands.run(*arguments, faults=faults)
        assert ended.code == 2, (words, ended.stderr)
        assert ended.error.startswith(f"error: {named(target)}: cannot be written: ")
        assert why in ended.error
        assert (words[0] == "score") == ("conforming" in ended.stdout)
    assert files_of(place) == before


def test_a_read_only_disk_is_told(commands, rollout_words, whole_run, shards, disk):
    """A disk that is mounted read-only: readers read, writers say so and end with 2."""
    with disk("5m") as small:
        shutil.copytree(whole_run, small.path / "run")
        small.forbid_writing()
        try_all(commands, rollout_words, small.path, shards, why="Read-only file system")


def test_folders_without_the_right_to_write_are_told(
    commands, rollout_words, whole_run, shards, tmp_path
):
    """The same by file modes, which bind root here as they bind everybody else."""
    place = tmp_path / "place"
    shutil.copytree(whole_run, place / "run")
    (place / "run" / ".lock").chmod(0o444)
    for folder in (place / "run", place):
        folder.chmod(0o555)
    try:
        try_all(commands, rollout_words, place, shards, why="Permission denied", faults=[BOUND])
    finally:
        for folder in (place, place / "run"):
            folder.chmod(0o755)


@pytest.mark.parametrize("name", ["run.json", "rollouts.jsonl"])
def test_files_that_may_not_be_read_are_named(name, commands, rollout_words, run):
    """A run of somebody else: which file cannot be read, exit code 2."""
    (run / name).chmod(0)
    for words in (("score", run), ("inspect", run), ("compare", run, run), rollout_words(run)):
        ended = commands.run(*words, faults=[BOUND])
        assert ended.code == 2
        assert f"{run / name}: cannot be read: Permission denied" in ended.error
    assert not (run / "score").exists()


def test_a_folder_that_may_not_be_entered_is_named(commands, rollout_words, run):
    """Without the right to look into the run's folder, the path and the reason are said."""
    run.chmod(0)
    try:
        for words in (("score", run), ("report", run), ("check", run), rollout_words(run)):
            ended = commands.run(*words, faults=[BOUND])
            assert ended.code == 2
            assert str(run) in ended.error
            assert "not readable" in ended.error
        ended = commands.run("compare", run, run, faults=[BOUND])
        assert (ended.code, ended.error) == (2, f"error: {run / 'run.json'}: Permission denied")
    finally:
        run.chmod(0o755)


def test_root_is_really_bound_in_these_tests(commands, tmp_path):
    """The power that is taken away here is the one that would make these tests say nothing."""
    if os.geteuid() != 0:
        pytest.skip("others are bound anyway")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    words = ("import", DUMP, "--out", folder / "run")
    assert commands.run(*words, faults=[BOUND]).code == 2
    assert commands.run(*words).code == 0
