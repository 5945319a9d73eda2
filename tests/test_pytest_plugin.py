"""The pytest plugin, as a user's test suite sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

from coordeval.errors import RunIncomplete
from coordeval.pytest_plugin import DumpGates

DUMPS = Path(__file__).parents[1] / "fixtures" / "dumps"
SUITE = f"""
def test_holds(coordeval):
    coordeval.assert_gates(r"{DUMPS / "conforming.jsonl"}", "f1/0.50/f1>=0.99", "*:+-0", baseline="b.json")

def test_breaks(coordeval):
    coordeval.assert_gates(r"{DUMPS / "cjk-slots.jsonl"}", "f1/0.50/f1>=0.5", "parse/drop_rate<=0.1")

def test_scores(coordeval):
    assert coordeval.score(r"{DUMPS / "cjk-slots.jsonl"}").metrics["parse/dropped/wrong_arity"] == 144
"""


@pytest.fixture
def suite(tmp_path):
    """Run pytest on a small suite in a folder of its own."""
    (tmp_path / "test_dumps.py").write_text(SUITE)

    def run(*arguments):
        # An installed entry point is blocked first: the plugin must not be registered twice.
        plugin = ("-p", "no:coordeval", "-p", "coordeval.pytest_plugin", "-p", "no:cacheprovider")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *plugin, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return run


def test_the_fixture_scores_and_asserts(suite, tmp_path):
    """Baselines are written on demand, gates pass and fail, and a failure lists every gate."""
    done = suite("--coordeval-update-baselines", "-k", "holds")
    assert "1 passed" in done.stdout, done.stdout
    assert (tmp_path / "b.json").exists()
    done = suite()
    assert "1 failed, 2 passed" in done.stdout
    assert "f1/0.50/f1>=0.5: not >= 0.5" in done.stdout
    assert "parse/drop_rate<=0.1: not <= 0.1" in done.stdout


def test_a_missing_baseline_says_how_to_make_it(suite):
    """The first run of a new test tells the way."""
    assert "--update-baseline" in suite("-k", "holds").stdout


def test_an_unfinished_run_never_becomes_a_baseline(tmp_path):
    """Updating from a run that broke off, or failed throughout, keeps the baseline that is there."""
    baseline = tmp_path / "b.json"
    DumpGates(update=True).check(DUMPS / "conforming.jsonl", "*:+-0", baseline=baseline)
    before = baseline.read_bytes()
    half = tmp_path / "half"
    half.mkdir()
    (half / "run.json").write_text('{"format": "coordeval-run/1", "status": "running"}')
    (half / "rollouts.jsonl").write_bytes((DUMPS / "conforming.jsonl").read_bytes())
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text("")
    for run in (half, nothing):
        with pytest.raises(RunIncomplete):
            DumpGates(update=True).check(run, "*:+-0", baseline=baseline)
        assert baseline.read_bytes() == before


def test_the_plugin_loads_nothing_heavy():
    """Every pytest session of every project with coordeval installed imports it."""
    code = "import sys, coordeval.pytest_plugin; print([m for m in ('numpy', 'pandas', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
