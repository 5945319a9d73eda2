"""Every script at its smallest size: it runs, prints its tables, and stores the same ones."""

import json
import os
from pathlib import Path

import pytest
import run_all
from forked_scripts import run_script as run_script_forked
from tables import as_text, table_from_json

RUN = ("--images", "12", "--workload", "synthetic")
SMALLEST = {
    "bench_parsing.py": ("--rounds", "1"),
    "bench_cli_start.py": ("--rounds", "1"),
    "bench_scoring.py": (*RUN, "--engine", "coordeval score_run", "--engine", "hotcoco"),
    "bench_memory.py": ("--images", "4", "--command", "score"),
    "bench_growth.py": ("--case", "reading", "--case", "loop guard: boxes"),
    "bench_compare.py": RUN,
    "bench_attribution.py": RUN,
    "bench_report.py": RUN,
    "bench_engine_overhead.py": ("--images", "2", "--tokens", "4", "--pairs", "1"),
    "bench_constraint.py": ("--steps", "8", "--vocabulary", "4000"),
    "bench_guard.py": ("--shrink", "100"),
    "bench_guard_saving.py": ("--images", "2", "--tokens", "8"),
    "bench_training.py": ("--stage", "head and loss", "--positions", "32"),
    "bench_stage2.py": ("--batch", "1", "--objects", "1"),
}


def run_script(script, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("COORDEVAL_DATA", None)
    return run_script_forked(run_all.HERE / script, *arguments, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALLEST)
def test_every_script_prints_and_stores_its_tables(script, tmp_path):
    """What stands on stdout is what the stored JSON gives, with machine and versions beside it."""
    stored = tmp_path / "out" / "result.json"
    done = run_script(script, "--quick", "--json", str(stored), *SMALLEST[script])
    assert done.returncode == 0, done.stderr
    result = json.loads(stored.read_text())
    assert result["format"] == "coordeval-bench/1"
    assert result["quick"] is True
    assert result["machine"]["cores"] >= 1
    assert "numpy" in result["versions"]
    assert len(result["tables"]) >= 1
    for raw in result["tables"]:
        assert len(raw["rows"]) >= 1
        assert as_text(table_from_json(raw)) in done.stdout


def test_all_scripts_are_tried():
    """No script that `make bench` runs is without its smallest size here."""
    assert set(SMALLEST) == {step.script for step in run_all.STEPS}


@pytest.mark.parametrize("script", SMALLEST)
def test_scripts_say_how_to_run_them(script):
    """Each file says in its head what is measured, and the command."""
    head = (Path(run_all.HERE) / script).read_text(encoding="utf-8").split('"""')[1]
    assert f"python benchmarks/{script}" in head
