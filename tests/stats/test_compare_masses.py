"""Masses from an engine's most probable tokens are lower bounds: not judged against exact ones."""

import sys
from pathlib import Path

import pytest
from comparing import answer, line, make_run, record

from coordeval.stats.comparison import CompareOptions, compare_runs

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from telemetry import reading, write_slots

OPTIONS = CompareOptions(draws=200, coco_draws=20)


def run_with(folder, mass, bound):
    """Twenty equal images whose slots hold the mass, known up to the bound."""
    box = [100, 100, 300, 300]
    ids = [f"im{number:02d}" for number in range(20)]
    text = answer(record("cat", box))
    run = make_run(folder, [line(key, [("cat", *box)], text) for key in ids])
    write_slots(run.path, [reading(key, coord_mass=mass, mass_bound=bound) for key in ids])
    return run


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [((0.0, 0.09), None), ((0.09, 0.0), None), ((0.0, 0.0), "worse"), ((0.09, 0.09), "worse")],
)
def test_a_lower_bound_is_not_judged_against_an_exact_mass(tmp_path, bounds, verdict):
    """The same model, decoded by two engines, must not look worse in one of them."""
    runs = [
        run_with(tmp_path / name, mass, bound)
        for name, mass, bound in zip("ab", (0.99, 0.90), bounds, strict=True)
    ]
    change = compare_runs(runs, OPTIONS).versus[0].changes["slot/mass_mean"]
    assert change.delta == pytest.approx(-0.09)
    assert change.verdict == verdict
