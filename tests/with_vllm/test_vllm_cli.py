"""The command line with vLLM: what the README shows runs, and is resumed like any other run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.runs import open_run

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def coordeval(*arguments, cwd):
    command = [sys.executable, "-m", "coordeval", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_constrained_and_guarded_rollout_runs(benches, tmp_path):
    """`rollout ckpt-2400 --engine vllm --constrain grammar --loop-guard stop`, and again for free."""
    fixtures = benches("ckpt-2400").checkpoint.path.parent
    out = tmp_path / "run"
    arguments = [
        "rollout",
        "ckpt-2400",
        "--engine",
        "vllm",
        "--constrain",
        "grammar",
        "--loop-guard",
        "stop",
        "--limit",
        "12",
        "--out",
        out,
    ]
    done = coordeval(*arguments, cwd=fixtures)
    assert done.returncode == 0, done.stderr
    meta = json.loads((out / "run.json").read_text())
    assert meta["engine"]["name"] == "vllm"
    assert meta["decode"]["constraint"]["mode"] == "grammar"
    assert meta["decode"]["guard"]["mode"] == "stop"
    rollouts = list(open_run(out).rollouts())
    assert len(rollouts) == 12
    for one in rollouts:
        drops = parse(one.text, dialect_named("coordjson")).dropped_by_reason
        assert set(drops) <= ({"truncated_record"} if one.finish_reason != "stop" else set())
    again = coordeval(*arguments, cwd=fixtures)
    assert again.returncode == 0, again.stderr
    assert [one.text for one in open_run(out).rollouts()] == [one.text for one in rollouts]


def test_wrong_engine_arguments_are_usage_errors(benches, tmp_path):
    """One clear line and exit code 2, without a traceback."""
    fixtures = benches("ckpt-2400").checkpoint.path.parent
    done = coordeval(
        "rollout",
        "ckpt-2400",
        "--engine",
        "vllm",
        "--engine-arg",
        "dtype=half",
        "--out",
        tmp_path / "run",
        cwd=fixtures,
    )
    assert done.returncode == 2
    assert "--dtype" in done.stderr and "Traceback" not in done.stderr
