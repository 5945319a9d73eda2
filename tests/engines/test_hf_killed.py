"""A real decode that is killed: nothing finished is lost or doubled, and the texts are the same."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from forked_commands import shared_commands

ROOT = Path(__file__).parents[2]


def lines(path):
    if not path.exists():
        return []
    return [
        json.loads(line)
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


@pytest.mark.slow
def test_kill_9_in_mid_rollout_then_the_same_command(tmp_path):
    """SIGKILL while decoding, then again: every id exactly once, texts as in the recorded run."""
    out = tmp_path / "run"
    words = ["rollout", "fixtures/ckpt-300", "--out", out]
    words += ["--batch-size", 4, "--dtype", "fp32", "--device", "cpu", "--no-score"]
    commands = shared_commands(model=True)
    process = commands.start(*words)
    deadline = time.monotonic() + 120
    while len(lines(out / "rollouts.jsonl")) < 8 and time.monotonic() < deadline:
        assert commands.poll(process) is None, "the rollout ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    commands.wait(process)
    before = lines(out / "rollouts.jsonl")
    assert 8 <= len(before) < 64
    done = commands.run(*words)
    assert done.code == 0, done.stderr
    after = lines(out / "rollouts.jsonl")
    assert Counter(line["id"] for line in after) == Counter(f"{n:04d}" for n in range(64))
    kept = {line["id"]: line for line in after}
    assert all(kept[line["id"]] == line for line in before), "a finished line was decoded again"
    recorded = {
        line["id"]: line["text"]
        for line in lines(ROOT / "fixtures" / "runs" / "ckpt-300" / "rollouts.jsonl")
    }
    assert sum(kept[name]["text"] == text for name, text in recorded.items()) >= 62
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
