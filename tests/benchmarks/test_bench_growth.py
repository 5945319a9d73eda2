"""Growth: the exponent is right on closed forms, and every case does what its name says."""

import itertools

import bench_growth
import growth_cases
import growth_plot
import growth_runs
import pytest
from bench_growth import SCALES, exponent, growth_table, last_exponent, row_of
from growth_case import Case
from hostile_texts import HOSTILE
from rounds import Timing

from coordeval.metrics.score import score_run
from coordeval.runs import open_run

CASE = Case("group", "name", "items", 16, lambda size, folder: lambda: (size, folder))
CASES = growth_cases.all_cases()
MODELS = {"losses", "stage 2"}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_is_that_power(power):
    """Time that is a power of the size has that exponent, whatever its factor."""
    seconds = [0.003 * scale**power for scale in SCALES]
    assert exponent(seconds) == pytest.approx(power, abs=1e-9)
    assert last_exponent(seconds) == pytest.approx(power, abs=1e-9)


def test_growth_behind_a_fixed_part_is_seen_and_named():
    """A quadratic part that only shows at the large end is marked, what is nearly linear is not."""
    shapes = {
        "linear": lambda n: 5.0 + n,
        "nearly linear": lambda n: n**1.05,
        "hidden square": lambda n: 30.0 + n + 0.3 * n * n,
        "square": lambda n: float(n * n),
    }
    rows = [
        row_of(CASE._replace(name=name), [float(shape(n)) for n in SCALES], 8)
        for name, shape in shapes.items()
    ]
    table = growth_table(rows)
    marked = {row[0].partition(": ")[2] for row in table.rows if row[-1]}
    assert marked == {"square", "hidden square"}
    assert "group: square" in table.notes[-1]
    assert growth_table(rows[:1]).notes[-1].endswith("nothing.")


def test_the_smallest_time_of_a_size_counts(monkeypatch):
    """A disturbance in one round changes nothing, and every size runs in every round."""
    ran = []

    def build(size, _):
        return lambda: ran.append(size)

    disturbed = itertools.count()

    def fake(work):
        work()
        return Timing(ran[-1] * 1.0 + 100.0 * (next(disturbed) < len(SCALES)), 1.0)

    monkeypatch.setattr(bench_growth, "timed", fake)
    seconds = bench_growth.times_of(CASE._replace(build=build), rounds=2, shrink=1)
    assert seconds == [16.0 * scale for scale in SCALES]
    assert ran[1:] == [16 * scale for scale in SCALES] * 2


@pytest.mark.parametrize(
    "case",
    [
        case if case.group not in MODELS else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
    ids=lambda case: f"{case.group}-{case.name}",
)
def test_every_case_runs(case, tmp_path):
    """Each case prepares its input and runs, twice, at a small size."""
    work = case.build(min(16, case.base), tmp_path)
    work()
    work()


def test_a_case_that_begins_with_one_item_begins_with_one():
    """Shrinking stops at sixteen items, and leaves a smaller beginning as it is."""
    bases = [bench_growth.base_of(CASE._replace(base=base), 8) for base in (1, 8, 16, 100, 800)]
    assert bases == [1, 8, 16, 16, 100]


def test_what_the_table_is_about_is_there():
    """Every part that the benchmarks measure has its growth; stage 2 its iterations and targets."""
    groups = {case.group for case in CASES}
    assert groups >= {
        *("parsing", "reading", "scoring", "compare", "rollout", "report", "inspect"),
        *("attribution", "loop guard", "grammar", "losses", "stage 2"),
    }
    stage2 = {case.name: case.base for case in CASES if case.group == "stage 2"}
    assert stage2["iterations of channel A"] == 1
    assert any("channel B" in name for name in stage2)


def test_case_names_are_distinct():
    """No two lines of the table are called alike."""
    names = [(case.group, case.name) for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_have_the_size_asked_for(name):
    """A text of twice the size is twice as long."""
    lengths = [len(HOSTILE[name](size)) for size in (10_000, 20_000)]
    assert 0.5 < lengths[0] / 10_000 < 1.5
    assert lengths[1] / lengths[0] == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("kind", ["looping", "prose", "unreadable"])
def test_looping_runs_loop(kind, tmp_path):
    """The cases that are about loops hold one in (nearly) every text."""
    metrics = score_run(open_run(growth_runs._run(kind, 16, tmp_path))).metrics
    assert metrics["dup/loop_rate"] > 0.9


def test_the_text_of_many_loops_holds_them_all(tmp_path):
    """Each of the many blocks is a loop of its own, with its place among the tokens."""
    growth_runs.many_loops(24, tmp_path)
    result = score_run(open_run(tmp_path / "loops-24.jsonl"))
    assert len(result.loops) == 24
    assert all(loop.repeats == 5 for loop in result.loops)
    assert all(loop.wasted_tokens for loop in result.loops)


def test_the_picture_holds_every_row():
    """Every line of the table is a line of the picture, and its alt text says the exponents."""
    rows = [
        row_of(CASE._replace(group=group, name=name), [n * 0.001 for n in SCALES], 8)
        for group in ("a", "b")
        for name in ("one", "two")
    ]
    table = growth_table(rows)
    figure = growth_plot.growth_figure(table)
    drawn = [chart["layer"][1]["data"]["values"] for chart in figure.spec["concat"]]
    assert sum(map(len, drawn)) == 4 * len(SCALES)
    assert {row["times"] for row in drawn[0] if row["scale"] == 32} == {32.0}
    assert figure.alt.count("exponent 1.00") == 4
    assert growth_plot.growth_svg(table).startswith("<svg")
