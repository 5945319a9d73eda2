"""Every dump and recorded run of fixtures/, held to its baseline: a changed number fails.

After a change that is meant to change numbers: python fixtures/build_baselines.py
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from coordeval.pytest_plugin import DumpGates
from coordeval.reports.gate_table import failures_text
from coordeval.stats.baseline import read_baseline, write_baseline

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXACTLY = "*:+-0"


def _script():
    spec = importlib.util.spec_from_file_location(
        "build_baselines", FIXTURES / "build_baselines.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
RECORDED = SCRIPT.recorded()


@pytest.mark.parametrize("name", RECORDED)
def test_every_number_is_the_recorded_one(name):
    """Parser and metrics give exactly the numbers of the baseline, key by key."""
    found = DumpGates().assert_gates(
        RECORDED[name],
        EXACTLY,
        baseline=SCRIPT.baseline_path(name),
        dialect=SCRIPT.DIALECTS.get(name),
    )
    assert found.exit_code == 0
    baseline = read_baseline(SCRIPT.baseline_path(name))
    assert {outcome.key for outcome in found.outcomes} == set(baseline.metrics)


def test_every_baseline_belongs_to_a_recording():
    """No baseline is left behind by a dump that is gone."""
    stored = {path.stem for path in (FIXTURES / "baselines").glob("*.json")}
    assert stored == set(RECORDED)


def test_any_changed_number_fails(tmp_path):
    """Each metric of a baseline, moved a little or set to null: exactly this one fails."""
    name = "broken-records"
    baseline = read_baseline(SCRIPT.baseline_path(name))
    path = tmp_path / "b.json"
    moved = {}
    for key, value in baseline.metrics.items():
        moved[key] = 0.0 if value is None else value + 1e-6
    write_baseline(replace(baseline, metrics=moved), path)
    found = DumpGates().check(RECORDED[name], EXACTLY, baseline=path)
    assert found.exit_code == 1
    assert {outcome.key for outcome in found.failing} == set(baseline.metrics)
    for key, value in baseline.metrics.items():
        if value is not None and key.startswith(("samples/", "coco/")):
            write_baseline(replace(baseline, metrics=baseline.metrics | {key: None}), path)
            (outcome,) = DumpGates().check(RECORDED[name], EXACTLY, baseline=path).failing
            assert outcome.key == key


def test_the_failure_names_metric_and_numbers(tmp_path):
    """Whoever breaks a number reads which one, what it was and what it is."""
    baseline = read_baseline(SCRIPT.baseline_path("conforming"))
    path = tmp_path / "b.json"
    write_baseline(replace(baseline, metrics=baseline.metrics | {"coco/AP": 0.5}), path)
    found = DumpGates().check(RECORDED["conforming"], EXACTLY, baseline=path)
    text = failures_text(found)
    assert "coco/AP: rose too far (baseline 0.5000, now 1.0000" in text
