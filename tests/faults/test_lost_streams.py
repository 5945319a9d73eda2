"""Standard streams that are closed or lost: a command does its work and ends as it would have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from forked_commands import ENVIRONMENT, ROOT, files_of


def coordeval(*words, shell="", **streams):
    """`coordeval WORDS` of a shell that redirects its streams; its exit code and stderr."""
    command = ["sh", "-c", f'exec "$0" -m coordeval "$@" {shell}', sys.executable, *map(str, words)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | streams
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, text=True, check=False, **streams)
    return done.returncode, done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_seen(closed, rollout_words, whole_run, tmp_path):
    """Without a stream the run is the same, and no file of it gets what others print."""
    out = tmp_path / "run"
    code, said = coordeval(*rollout_words(out), shell=closed)
    assert (code, "Traceback" in said) == (0, False)
    assert files_of(out) == files_of(whole_run)
    gate = ("check", out, "--gate", "f1/0.50/f1>=1.1")
    assert coordeval(*gate, shell=closed)[0] == 1
    assert coordeval("score", tmp_path / "nowhere", shell=closed)[0] == 2


@pytest.mark.parametrize("lost", ["reader", "disk"])
def test_a_lost_stderr_stops_no_command(lost, rollout_words, whole_run, tmp_path):
    """Progress and logs that cannot be written end no rollout and change no exit code."""
    out = tmp_path / "run"
    if lost == "disk" and not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("there is no /dev/full here")
    reading, writing = os.pipe()
    os.close(reading)
    shell = "2>/dev/full" if lost == "disk" else ""
    try:
        code, _ = coordeval(*rollout_words(out), shell=shell, stderr=writing)
        assert code == 0
        assert files_of(out) == files_of(whole_run)
        assert coordeval("score", tmp_path / "nowhere", shell=shell, stderr=writing)[0] == 2
    finally:
        os.close(writing)
