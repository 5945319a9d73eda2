"""Slots, guard and other samples as people see them: inspect, terminal, page, figures, settings."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from coordeval.metrics.attribution.against import measure_against
from coordeval.metrics.sample_run import sample_of
from coordeval.metrics.score import score_run
from coordeval.reports.attribution import attribution_report
from coordeval.reports.charts import slot_entropy, slot_records, slots
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.details import Details
from coordeval.reports.html.summary import headline
from coordeval.reports.inspection import inspect_image, render_inspection
from coordeval.reports.terminal import score_report
from coordeval.runs import open_run
from coordeval.stats.comparison import CompareOptions, compare_runs
from coordeval.stats.settings import control_text, differing_fields

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from telemetry import reading, write_slots

GT = [{"desc": "cat", "bbox_2d": [0, 0, 500, 500]}]
BROKEN = '{"desc": "cat", "bbox_2d": [第九, <|coord_0|>, <|coord_500|>, <|coord_500|>]}'
GUARD = {"kind": "near", "onset": 118, "tokens_saved": 640}


def shown(renderable, width=200):
    console = Console(width=width, record=True, file=io.StringIO(), markup=False, emoji=False)
    console.print(renderable)
    return console.export_text()


def slipped(**fields):
    """A reading where another token than a bin was most probable."""
    return reading(
        **{"coord_mass": 0.31, "top_prob": 0.2, "other_text": "第九", "other_prob": 0.42} | fields
    )


@pytest.fixture
def slipping(run_dir, line, rec, text):
    """A run whose second record was lost, and whose third one a mask would have saved."""
    answer = text(rec("cat", 0, 0, 500, 500), BROKEN, rec("cat", 0, 0, 400, 400))
    lines = [
        line(answer, GT, finish_reason="loop_guard", guard=GUARD),
        line(text(rec("cat", 0, 0, 500, 500)), GT, sample_index=1),
    ]
    folder = run_dir(lines)
    rows = [
        reading(token=8, record=0, slot=0),
        slipped(token=30, record=1, slot=0, written_bin=None),
        reading(token=31, record=1, slot=1),
        slipped(token=52, record=2, slot=2, mass_bound=0.05),
        slipped(sample_index=1, token=8, record=0, slot=0, coord_mass=0.77),
    ]
    write_slots(folder, rows)
    return open_run(folder)


def test_inspect_marks_where_control_was_lost(slipping):
    """The slot a record was dropped for, and any other slip, with mass and best other token."""
    inspection = inspect_image(score_run(slipping), "a")
    sound, lost, saved = inspection.records
    assert sound.slots == ()
    assert 'in slot 1 (coordinate mass 0.31, best other token "第九" 0.42)' in lost.note
    assert "control lost" not in lost.note
    assert "control lost in slot 3 (coordinate mass 0.31 to 0.36, " in saved.note
    raw = inspection.to_json()
    assert raw["guard"] == GUARD
    assert raw["records"][1]["slots"][0]["mass"] == 0.31
    text = shown(render_inspection(inspection))
    assert "stopped by the loop guard: near repeats from token 118, saved 640 tokens" in text
    assert "coordinate mass 0.31" in text


def test_inspect_shows_another_sample(slipping):
    """Another sample takes the headline's place, with its own slots and verdicts."""
    result = score_run(sample_of(slipping, 1))
    inspection = inspect_image(result, "a", sample_index=1)
    assert [record.verdict for record in inspection.records] == ["right"]
    assert "coordinate mass 0.77" in inspection.records[0].note
    assert inspection.guard is None
    assert inspection.to_json()["sample_index"] == 1
    assert "sample 1" in shown(render_inspection(inspection)).splitlines()[0]
    assert result.metrics["oracle/images"] is None


def test_a_marked_rollout_is_not_called_stopped(run_dir, line, rec, text):
    """In mode mark the line says so, and nothing was saved."""
    folder = run_dir([line(text(), GT, finish_reason="stop", guard=GUARD | {"tokens_saved": 0})])
    inspection = inspect_image(score_run(open_run(folder)), "a")
    assert inspection.guard == "marked by the loop guard: near repeats from token 118"


def test_misses_say_how_many_samples_found_them(run_dir, line, rec, text):
    """A miss of the headline shows how often the other samples found it."""
    found = line(text(rec("cat", 0, 0, 500, 500)), GT, sample_index=1)
    folder = run_dir([line(text(), GT), found, line(text(), GT, sample_index=2)])
    output = shown(render_inspection(inspect_image(score_run(open_run(folder)), "a")))
    assert "found by 1 of 2 other samples" in output


def test_the_score_has_the_block_only_where_there_is_something(slipping, run_dir, line, text):
    """Each part shows where the run recorded it, and a plain run shows none."""
    output = shown(score_report(score_run(slipping), name="x", meta={}))
    for words in (
        "coordinate mass",
        "stopped by the loop guard",
        "640 tokens saved",
        "other sampl",
    ):
        assert words in output
    plain = score_run(open_run(run_dir([line(text(), GT)], "plain")))
    assert "control and samples" not in shown(score_report(plain, name="x", meta={}))
    quiet = open_run(run_dir([line(text(), GT)], "quiet", decode={"guard": {"mode": "mark"}}))
    output = shown(score_report(score_run(quiet), name="x", meta=quiet.meta))
    assert "marked by the loop guard" in output
    assert "loop guard mark" in output
    assert "coordinate mass" not in output


@pytest.mark.parametrize("width", [40, 88])
def test_the_block_fits_any_width(slipping, width):
    """No line is wider than the console."""
    output = shown(score_report(score_run(slipping), name="x", meta={}), width)
    assert all(len(row) <= width for row in output.splitlines())


def test_the_page_shows_groups_only_where_recorded(slipping, run_dir, line, text):
    """Summary groups of slots, guard and samples stand for a run that has them, and vanish else."""
    plain = open_run(run_dir([line(text(), GT)], "plain"))
    both = shown_runs([(run, score_run(run)) for run in (plain, slipping)])
    groups = {"Coordinate slots", "Loop guard", "Several samples"}
    assert groups <= headline(both, (), ()).keys()
    assert not groups & headline(both[:1], (), ()).keys()


def test_the_gallery_holds_slots_and_guard(slipping):
    """The details of an image carry the noted slots per record, and the guard's words."""
    result = score_run(slipping)
    (details,) = Details(slipping, result).of_images(0, 1)
    assert details["gd"].startswith("stopped by the loop guard")
    assert {place: [row[:2] for row in rows] for place, rows in details["r"]["m"].items()} == {
        "1": [[0, True]],
        "2": [[2, False]],
    }
    assert "coordinate mass 0.31" in details["r"]["m"]["1"][0][2]


def test_figures_of_slots_read_the_headline(slipping):
    """Means per slot and per record of the known quantities, other samples left out."""
    runs = shown_runs([(slipping, score_run(slipping))])

    def means(figure, by):
        return {
            (row["quantity"], row[by]): (row["mean"], row["slots"])
            for row in figure.spec["data"]["values"]
        }

    by_slot = means(slots.figure(runs), "slot")
    assert by_slot["coordinate mass", "x1"] == (pytest.approx(0.65), 2)
    assert by_slot["best other token", "x2"] == (0.42, 1)
    assert {name for name, _ in by_slot} == {"coordinate mass", "top bin", "best other token"}
    by_record = means(slot_records.figure(runs), "record")
    assert by_record["coordinate mass", 2] == (pytest.approx(0.65), 2)
    assert means(slot_entropy.figure(runs), "slot")["entropy", "y1"] == (0.4, 1)


def test_no_telemetry_is_no_figure(show, line):
    """Runs without slots give figures that say why they are empty."""
    for module in (slots, slot_records, slot_entropy):
        assert module.figure([show([line()], module.NAME)]).spec is None


def test_control_reads_in_words():
    """A constraint or guard shows its mode and what is not default; absent control shows as off."""
    grammar = {"mode": "grammar", "geometries": ["bbox_2d"], "max_objects": 20, "ordered": True}
    assert control_text(grammar) == "grammar (geometries bbox_2d, max objects 20)"
    assert control_text({"mode": "grammar", "ordered": False}) == "grammar (not ordered)"
    assert control_text({"mode": "stop", "near_repeats": 4, "exact_repeats": 9}) == (
        "stop (exact repeats 9)"
    )
    free, controlled = {"temperature": 0}, {"temperature": 0, "constraint": grammar}
    assert differing_fields([free, controlled | {"guard": {"mode": "stop"}}]) == {
        "constraint": ["none", control_text(grammar)],
        "guard": ["off", "stop"],
    }


def test_other_control_is_compared_and_attributed(run_dir, line, rec, text):
    """Runs under other control compare, and the attribution names what each had."""
    lines = [line(text(rec("cat", 0, 0, 500, 500)), GT, id=f"i{n}") for n in range(8)]
    base = {"max_new_tokens": 64, "temperature": 0.0}
    free = open_run(run_dir(lines, "free", decode=base))
    control = {"constraint": {"mode": "grammar"}, "guard": {"mode": "stop"}}
    held = open_run(run_dir(lines, "held", decode=base | control))
    compared = compare_runs([free, held], CompareOptions(draws=100, coco_draws=20))
    assert list(compared.settings.differs) == ["decode"]
    found = measure_against(free, held)
    report = attribution_report(found.base_costs, name="free", against=[found])
    assert "here free decoding; there constrained to grammar, loop guard stop" in shown(report)
    assert found.to_json()["decode"]["other"]["guard"] == {"mode": "stop"}
