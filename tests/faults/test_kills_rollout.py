"""kill -9 in the middle of a rollout: nothing finished is lost, nothing stands twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
from forked_commands import SCENES, files_of, killed_at

KILLED_RUNS = 95


@pytest.fixture(scope="module")
def undisturbed(commands, rollout_words, memory):
    """What a rollout in batches of two changes and leaves, and how long it takes."""
    (memory / "undisturbed").mkdir()  # or making it would count as a change
    out = memory / "undisturbed" / "run"
    changes = commands.number_of_changes(*rollout_words(out, batch_size=2), under=out)
    started = time.monotonic()
    assert commands.run(*rollout_words(out.parent / "again", batch_size=2)).code == 0
    return changes, time.monotonic() - started, files_of(out)


def whole_lines(out):
    """The lines that were finished: all that end with a newline."""
    path = out / "rollouts.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def kill_once(commands, words, out, randomness, changes, seconds):
    """Run until a kill at a random moment: before a random change, or after a random time."""
    if randomness.random() < 0.6:
        commands.run(*words, faults=[killed_at(randomness.randint(1, changes), out)])
        return
    child = commands.start(*words)
    time.sleep(randomness.uniform(0, seconds))
    os.kill(child.pid, signal.SIGKILL)
    commands.wait(child)


@pytest.mark.parametrize("seed", range(KILLED_RUNS))
def test_a_killed_rollout_goes_on_as_if_nothing_had_been(
    seed, commands, rollout_words, undisturbed, place
):
    """One to three kills, then the same command: every file as without a kill, byte for byte."""
    changes, seconds, expected = undisturbed
    out = place / "run"
    words = rollout_words(out, batch_size=2)
    randomness = random.Random(seed)
    for _ in range(randomness.randint(1, 3)):
        before = whole_lines(out)
        kill_once(commands, words, out, randomness, changes, seconds)
        assert whole_lines(out)[: len(before)] == before, "a finished line was lost"
    ended = commands.run(*words)
    assert ended.code == 0, ended.stderr
    assert files_of(out) == expected


def test_a_kill_before_any_change_leaves_a_run_that_goes_on(
    commands, rollout_words, undisturbed, place
):
    """Every single change of the run's first and last steps is a moment to die, one by one."""
    changes, _, expected = undisturbed
    moments = [*range(1, 13), *range(changes - 12, changes + 1)]
    for moment in moments:
        out = place / str(moment)
        ended = commands.run(*rollout_words(out, batch_size=2), faults=[killed_at(moment, out)])
        assert ended.code == -signal.SIGKILL
        assert commands.run(*rollout_words(out, batch_size=2)).code == 0
        assert files_of(out) == expected


@pytest.mark.parametrize("seed", range(8))
def test_readers_take_what_a_kill_left(seed, commands, rollout_words, undisturbed, place):
    """Between kill and resume every command reads what is there, or says what is not there."""
    changes, _, _ = undisturbed
    out = place / "run"
    fault = killed_at(random.Random(seed).randint(8, changes), out)
    commands.run(*rollout_words(out, batch_size=2), faults=[fault])
    lines = len(whole_lines(out))
    ended = commands.run("score", out, "--json")
    assert ended.code in ({0} if lines else {2, 3}), ended.stderr
    gate = commands.run("check", out, "--gate", "f1/0.50/f1>=0")
    if lines:
        done = json.loads((out / "run.json").read_text())["status"] == "complete"
        assert json.loads(ended.stdout)["status"] == ("complete" if done else "partial")
        assert gate.code == (0 if done else 3), gate.stderr
    assert "Traceback" not in ended.stderr + gate.stderr


def test_error_lines_that_are_being_redone_survive_a_kill(commands, place):
    """--retry-errors killed at every change: what had no error stands, the rest is made again."""
    recording = place / "recording.jsonl"
    scenes = [json.loads(line) for line in SCENES.read_text().splitlines()[:6]]
    lines = [
        {"id": scene["id"], "width": 64, "height": 64, "gt": [], "text": "{}"} for scene in scenes
    ]
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines[:4]))
    words = ("rollout", recording, "--engine", "replay", "--data", SCENES, "--limit", 6)
    whole = place / "whole"
    assert commands.run(*words, "--out", whole, "--no-score").code == 3  # two without a line
    number = 0
    while True:
        number += 1
        out = place / str(number)
        assert commands.run(*words, "--out", out, "--no-score").code == 3
        again = (*words, "--out", out, "--no-score", "--retry-errors")
        if commands.run(*again, faults=[killed_at(number, out)]).code == 3:
            break  # there are no more changes
        assert commands.run(*again).code == 3
        assert files_of(out) == files_of(whole)
    assert number > 8
