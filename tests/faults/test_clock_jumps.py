"""A wall clock that jumps by years, at every look at it: nothing goes by it but the dates."""

from __future__ import annotations

import json
import os
import signal

import pytest
from forked_commands import files_of, killed_at


def jumping(seed):
    return {"kind": "jumping_clock", "seed": seed}


@pytest.mark.parametrize("seed", range(4))
def test_rollouts_resume_and_score_under_a_jumping_clock(
    seed, commands, rollout_words, whole_run, tmp_path
):
    """Killed under one wrong clock and resumed under another: the files of an undisturbed run."""
    out = tmp_path / "run"
    ended = commands.run(*rollout_words(out), faults=[jumping(seed), killed_at(25, out)])
    assert ended.code == -signal.SIGKILL
    ended = commands.run(*rollout_words(out), faults=[jumping(seed + 100)])
    assert ended.code == 0, ended.stderr
    assert files_of(out) == files_of(whole_run)
    plain = commands.run("score", out, "--json").stdout
    assert commands.run("score", out, "--json", faults=[jumping(seed)]).stdout == plain


def test_the_clock_of_these_tests_really_jumps(commands, rollout_words, tmp_path):
    """Dates in run.json lie far apart though the command took no time."""
    years = set()
    for seed in range(4):
        out = tmp_path / str(seed)
        assert commands.run(*rollout_words(out), faults=[jumping(seed)]).code == 0
        meta = json.loads((out / "run.json").read_text())
        years |= {meta["created"][:4], meta["updated"][:4]}
    assert len(years) > 4


@pytest.mark.parametrize("age", [-40 * 365 * 86400, 40 * 365 * 86400])
def test_locks_do_not_age(age, commands, rollout_words, run, whole_run):
    """A lock file of the past or the future stands for nobody once its process is gone."""
    lock = run / ".lock"
    moment = max(lock.stat().st_mtime + age, 1)
    os.utime(lock, (moment, moment))
    assert commands.run(*rollout_words(run)).code == 0
    assert files_of(run) == files_of(whole_run)


def test_a_page_and_a_comparison_do_not_depend_on_the_clock(commands, whole_run, tmp_path):
    """What is made twice under wrong clocks is the same twice."""
    drawn = []
    for seed in range(2):
        page = tmp_path / f"{seed}.html"
        words = ("report", whole_run, "--thumbnails", 0, "-o", page)
        assert commands.run(*words, faults=[jumping(seed)]).code == 0
        drawn.append(page.read_bytes())
    assert drawn[0] == drawn[1]
    words = ("compare", whole_run, whole_run, "--json")
    texts = {commands.run(*words, faults=[jumping(seed)]).stdout for seed in range(2)}
    assert len(texts) == 1
