"""The head of a cluster is killed in mid-run: one line, exit code 3, and the run goes on elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from clustering import FIXTURES, assert_same, keys_on_disk, roll

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATIENCE_S = 8
ROLLOUT = f"""
import coordeval.engines.ray_head as head
from coordeval.cli.app import main
head.PATIENCE_S = {PATIENCE_S}
main()
"""


@pytest.fixture
def head():
    """Address and processes of a cluster of its own, of one node with two CPUs."""
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))  # short: it holds socket paths
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    start = ("-m", "ray.scripts.scripts", "start", "--head", "--port", str(port))
    sizes = ("--num-cpus", "2", "--object-store-memory", str(80 << 20))
    ports = ("--min-worker-port", "0", "--max-worker-port", "0", "--include-dashboard", "false")
    subprocess.run(
        [sys.executable, *start, *sizes, *ports, "--temp-dir", str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    yield f"127.0.0.1:{port}", folder, environment
    for process in _processes(str(folder)):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _processes(word, name=""):
    """Processes whose command line holds the word and the name."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if word in words and name in words and process.pid != os.getpid():
            found.append(process)
    return found


def test_a_head_that_dies_is_one_line_and_nothing_is_lost(head, tmp_path):
    """Exit code 3, what was finished stands there, and one machine finishes it."""
    address, folder, environment = head
    out = tmp_path / "run"
    words = ("rollout", FIXTURES / "ckpt-2400", "--data", FIXTURES / "scenes" / "heldout.jsonl")
    where = ("--engine", "ray", "--ray-address", address, "--replicas", "2", "--inner", "hf")
    sizes = ("--batch-size", "1", "--limit", "24", "--max-new-tokens", "128", "--no-score")
    command = [sys.executable, "-c", ROLLOUT, *words, *where, *sizes, "--out", out]
    with (
        (tmp_path / "stderr").open("wb") as errors,
        subprocess.Popen(list(map(str, command)), env=environment, stderr=errors) as process,
    ):
        lines = out / "rollouts.jsonl"
        while process.poll() is None and not (
            lines.exists() and lines.read_bytes().count(b"\n") > 2
        ):
            time.sleep(0.1)
        (gcs,) = _processes(str(folder), "gcs_server")
        gcs.kill()
        assert process.wait(timeout=120) == 3
    said = (tmp_path / "stderr").read_text().splitlines()
    told = [line for line in said if line.startswith("error: ")]
    assert told == said[-1:]
    assert f"has not answered for {PATIENCE_S} s" in told[0]
    assert not any("Traceback" in line for line in said)
    finished = keys_on_disk(out)
    assert 2 < len(finished) < 24
    meta = json.loads((out / "run.json").read_text())
    assert meta["status"] == "failed"
    assert meta["counts"]["finished"] == len(finished)
    outcome, rest, _ = roll(out, limit=24)
    assert (outcome.resumed, outcome.exit_code()) == (len(finished), 0)
    _, alone, _ = roll(tmp_path / "alone", limit=24)
    assert_same(rest, alone)
