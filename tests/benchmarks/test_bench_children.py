"""Processes of their own: exit code, output, times, and a peak that is theirs alone."""

import subprocess
import sys

import children
import numpy as np
import pytest

SCRIPT = """
import json, sys
sys.path.append(sys.argv[2])
from children import peak_bytes, resident_bytes
before = resident_bytes()
block = bytearray(int(sys.argv[1]))
del block
print("noise")
print(json.dumps({"before": before, "after": resident_bytes(), "peak": peak_bytes()}))
"""


def peak_of(tmp_path, size):
    script = tmp_path / "allocate.py"
    script.write_text(SCRIPT)
    return children.last_json(script, [str(size), str(children.__file__).rpartition("/")[0]])


def test_a_peak_counts_what_was_given_back(tmp_path):
    """Memory that a process held for a moment is in its peak, and not in what it holds."""
    small, large = peak_of(tmp_path, 1 << 20), peak_of(tmp_path, 200 << 20)
    assert large["peak"] - small["peak"] == pytest.approx(199 << 20, rel=0.1)
    assert large["after"] - large["before"] < 20 << 20


def test_a_large_parent_is_not_in_the_peak(tmp_path):
    """What this process holds does not count for its children."""
    held = np.ones(300 << 17)  # 300 MiB
    assert peak_of(tmp_path, 1 << 20)["peak"] < 150 << 20
    assert held.sum() == 300 << 17


def test_a_module_is_run_as_python_m_does_it():
    """Its output, its exit code, its times and its peak come back."""
    fine = children.run_module("json.tool", ["--help"])
    assert fine["code"] == 0
    assert "usage" in fine["stdout"]
    assert fine["cpu"] > 0
    assert fine["peak_bytes"] > 1 << 20
    assert children.run_module("json.tool", ["/nowhere.json"])["code"] != 0


def test_a_script_that_fails_is_an_error_with_its_words(tmp_path):
    """Nothing is measured of a child that ended badly."""
    script = tmp_path / "fails.py"
    script.write_text("raise ValueError('not today')")
    with pytest.raises(RuntimeError, match="not today"):
        children.last_json(script, [])


def test_times_of_a_process_are_its_own():
    """A process that works costs CPU seconds, one that sleeps does not."""
    works = children.timed_process([sys.executable, "-c", "sum(range(10**7))"])
    sleeps = children.timed_process([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert works.cpu > sleeps.cpu
    assert sleeps.wall >= 0.5
    with pytest.raises(subprocess.CalledProcessError):
        children.timed_process([sys.executable, "-c", "raise SystemExit(3)"])
