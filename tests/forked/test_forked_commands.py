"""Commands and files in forks of a warmed process are what they would be in a process of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import FIXTURES, run_forked, shared_commands
from forked_scripts import run_ranks, run_script


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("scroe", "x"),
        ("score", "nowhere\x1b[31m"),
        ("score", FIXTURES / "dumps" / "key-drift.jsonl"),
    ],
    ids=lambda words: " ".join(map(str, words[:1])),
)
def test_a_forked_command_says_what_a_started_one_says(words, tmp_path):
    """Exit code, stdout and stderr are the same, byte for byte."""
    code = "import sys; sys.argv[0] = 'coordeval'; from coordeval.cli.app import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    started = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    forked = run_forked(*words, cwd=tmp_path, text=False)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_folder_and_environment_are_those_of_one_command_alone(tmp_path, monkeypatch):
    """A command sees coordeval.toml of its folder; what it was given is gone with it."""
    (tmp_path / "coordeval.toml").write_text("nonsense = 1\n")
    words = ("rollout", "x", "--engine", "replay")
    assert "nonsense" in run_forked(*words, cwd=tmp_path).stderr
    assert "nonsense" not in run_forked(*words, cwd=tmp_path.parent).stderr
    monkeypatch.chdir(tmp_path)
    assert "nonsense" in run_forked(*words).stderr
    script = tmp_path / "told.py"
    script.write_text("import json, os, sys; print(json.dumps([dict(os.environ), sys.argv]))")
    for env in ({"A": "1"}, {"B": "\udce9"}):
        told = run_script(script, "x", 2, env=env)
        assert json.loads(told.stdout) == [env, [str(script), "x", "2"]]


def test_a_signal_and_an_exception_are_seen_as_of_a_process(tmp_path):
    """A killed child has the negative number of its signal; an uncaught exception its traceback."""
    out = tmp_path / "out"
    words = ("score", FIXTURES / "dumps" / "key-drift.jsonl", "--out", out)
    fault = {"kind": "stop_at_change", "under": str(out), "number": 1}
    child = shared_commands().start(*words, faults=[fault])
    os.kill(child.pid, signal.SIGKILL)
    assert shared_commands().wait(child).code == -signal.SIGKILL
    assert not list(out.glob("*.json"))
    script = tmp_path / "broken.py"
    script.write_text("raise ValueError('boom')")
    done = run_script(script)
    assert done.returncode == 1
    assert "ValueError: boom" in done.stderr


def test_ranks_know_each_other_and_none_is_left_behind(tmp_path):
    """Every rank has its number; where one fails, one that waits forever is ended."""
    script = tmp_path / "rank.py"
    script.write_text(
        "import os, sys, time\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')\n"
        "print([os.environ[name] for name in names], flush=True)\n"
        "if len(sys.argv) > 1 and os.environ['RANK'] == '0':\n    sys.exit(3)\n"
        "if len(sys.argv) > 1:\n    time.sleep(600)\n"
    )
    ranks = run_ranks(script, env=os.environ)
    assert [done.returncode for done in ranks] == [0, 0]
    assert [done.stdout for done in ranks] == [f"['{n}', '{n}', '2', '2']\n" for n in range(2)]
    failed = run_ranks(script, "fail", env=os.environ)
    assert [done.returncode for done in failed] == [3, -signal.SIGKILL]


def test_a_file_finds_what_stands_beside_it_and_on_its_path(tmp_path):
    """Its own folder and PYTHONPATH are imported from, as by Python."""
    for name in ("beside", "far/away"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"NAME = {name!r}\n")
    script = tmp_path / "main.py"
    script.write_text(
        "import beside, away\nassert __name__ == '__main__'\nprint(beside.NAME, away.NAME)\n"
    )
    done = run_script(script, env=os.environ | {"PYTHONPATH": str(tmp_path / "far")})
    assert done.stdout == "beside far/away\n", done.stderr
    assert Path.cwd() != tmp_path
