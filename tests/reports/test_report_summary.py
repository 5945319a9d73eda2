"""Words and tables of the summary: values with units, findings, settings, warnings, intervals."""

from dataclasses import replace
from pathlib import Path

import pytest

from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.findings import findings
from coordeval.reports.html.intervals import run_changes, run_intervals
from coordeval.reports.html.loops import loop_rows
from coordeval.reports.html.report import build_report
from coordeval.reports.html.settings import settings_rows
from coordeval.reports.html.summary import all_metrics, headline
from coordeval.reports.html.values import shown_change, shown_value, unit_name
from coordeval.reports.html.warnings import report_warnings
from coordeval.runs import open_run
from coordeval.stats.comparison import CompareOptions, compare_runs

DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"
CAT = {"desc": "cat", "bbox_2d": [0, 0, 500, 500]}


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("f1/0.50/f1", 0.5, "0.500"),
        ("f1/0.50/f1", 1.0, "1.000"),
        ("f1/0.50/tp", 1234, "1,234"),
        ("coco/AP", 0.4712, "47.1"),
        ("samples/conforming_rate", 0.979, "97.9 %"),
        ("parse/drop_rate", 0.0, "0.0 %"),
        ("dup/wasted_tokens", 1774.5, "1,774"),
        ("count/error_mean", 0.254, "0.25"),
        ("count/error_mean", 0.0, "0.00"),
        ("samples/errors", 0, "0"),
        ("coco/AP", None, "-"),
    ],
)
def test_values_carry_their_unit(key, value, shown):
    """Rates are percentages, AP points, F1 plain, counts whole; no value is a dash."""
    assert shown_value(key, value) == shown


@pytest.mark.parametrize(
    ("key", "change", "shown"),
    [
        ("samples/conforming_rate", -0.269, "−26.9 pp"),
        ("coco/AP", 0.103, "+10.3"),
        ("f1/0.50/f1", -0.22, "−0.220"),
        ("f1/0.50/f1", 0.0, "±0.000"),
        ("coco/AP", None, "-"),
    ],
)
def test_changes_carry_sign_and_unit(key, change, shown):
    """A difference of percentages is in percentage points."""
    assert shown_change(key, change) == shown


def test_units_are_named_where_the_value_does_not_carry_them():
    """AP is in points, tokens in tokens, a percentage needs no word."""
    assert unit_name("coco/AP") == "points"
    assert unit_name("dup/wasted_tokens") == "tokens"
    assert unit_name("parse/drop_rate") == ""


def pair(run_dir, line, rec, text):
    """A sound run and one that drops every second image's record; 40 images."""
    good = text(rec("cat", 0, 0, 500, 500))
    bad = text(rec("cat", 0, 0, 500))
    ids = [f"{number:02d}" for number in range(40)]
    a = open_run(run_dir([line(good, [CAT], id=name) for name in ids], "good"))
    b = open_run(
        run_dir([line(bad if int(name) % 2 else good, [CAT], id=name) for name in ids], "bad")
    )
    return shown_runs([(run, score_run(run)) for run in (a, b)])


def test_changes_are_those_of_compare(run_dir, line, rec, text):
    """The page shows the same differences, intervals and verdicts as `coordeval compare`."""
    runs = pair(run_dir, line, rec, text)
    changes = run_changes(runs)
    other = compare_runs([shown.run for shown in runs], CompareOptions()).versus[0].changes
    assert dict(changes.by_run[0]) == dict(other)
    (row,) = [
        row
        for row in headline(runs, [{}, {}], changes.by_run)["Quality"]
        if row.key == "f1/0.50/f1"
    ]
    assert row.cells[0].change == ""
    assert row.cells[1].verdict == "worse"
    assert row.cells[1].change.startswith("−0.333 [−")


def test_intervals_hold_the_value(run_dir, line, rec, text):
    """An interval lies around its value and has a width where images differ."""
    runs = pair(run_dir, line, rec, text)
    same, mixed = run_intervals(runs)
    assert (same["f1/0.50/f1"].low, same["f1/0.50/f1"].high) == (1.0, 1.0)
    value = runs[1].result.metrics["f1/0.50/f1"]
    assert mixed["f1/0.50/f1"].low < value < mixed["f1/0.50/f1"].high


def test_runs_that_do_not_compare_give_no_changes_and_say_why(run_dir, line, text):
    """Without a common image there are no verdicts, and the page warns."""
    runs = shown_runs(
        [
            (run, score_run(run))
            for run in (
                open_run(run_dir([line(text(), [CAT], id="a")], "one")),
                open_run(run_dir([line(text(), [CAT], id="b")], "two")),
            )
        ]
    )
    changes = run_changes(runs)
    assert changes.by_run == ({},)
    (warning,) = report_warnings(runs, changes.refusal)
    assert "no sample id stands in all runs" in warning
    assert "No changes between the runs are given" in build_report(runs).html


def test_partly_shared_images_are_counted(run_dir, line, text):
    """How many images two runs share stands on the page."""
    lines = [line(text(), [CAT], id=name) for name in "abc"]
    runs = [open_run(run_dir(lines[:2], "one")), open_run(run_dir(lines[1:], "two"))]
    (warning,) = report_warnings(shown_runs([(run, score_run(run)) for run in runs]))
    assert "share 1 image; 1 stands only in the first, 1 only in the other" in warning


def test_unfinished_and_empty_runs_are_warned_about(show, line):
    """A run that is not finished, and one in which nothing was evaluated, say so."""
    assert "not finished" in report_warnings([show([line()], "p", status="running")])[0]
    assert "nothing was evaluated" in report_warnings([show([], "e")])[0]


def test_findings_name_drops_with_an_example(show, line, rec, text):
    """The most frequent reason is named with what stood there, and links to its images."""
    answer = text('{"desc": "cat", "bbox_2d": [第九, <|coord_1|>, <|coord_2|>, <|coord_3|>]}')
    found = findings(show([line(answer, [CAT])]))
    drop = next(finding for finding in found if "dropped" in finding.text)
    assert "100.0 % of the records were dropped (1 of 1)" in drop.text
    assert "wrong_arity (foreign_token)" in drop.text
    assert "“第九”" in drop.text
    assert drop.link == "#run=run&reason=wrong_arity"


def test_findings_start_with_the_verdicts(run_dir, line, rec, text):
    """What got worse against the first run comes before all else."""
    runs = pair(run_dir, line, rec, text)
    changes = run_changes(runs).by_run[0]
    first = findings(runs[1], against="good", changes=changes)[0]
    assert first.tone == "bad"
    assert first.text.startswith("Worse than good in ")
    assert "F1 at IoU .50 −0.333" in first.text


def test_a_run_against_itself_cannot_be_told_apart(run_dir, line, rec, text):
    """Two equal runs get that sentence and no verdict."""
    good = pair(run_dir, line, rec, text)[0]
    runs = shown_runs([(good.run, good.result), (good.run, good.result)])
    found = findings(runs[1], against="x", changes=run_changes(runs).by_run[0])
    assert "Cannot be told apart" in found[0].text


def test_a_sound_run_has_good_news(show, line, rec, text):
    """Where nothing was dropped, that is what is said."""
    found = findings(show([line(text(rec("cat", 0, 0, 500, 500)), [CAT])]))
    assert [(finding.tone, finding.text) for finding in found] == [
        ("good", "1 record found, all usable.")
    ]
    assert findings(show([], "empty"))[0].text == "The run holds no sample."


def test_settings_are_said_once_or_side_by_side(run_dir, line):
    """What runs share stands once, what differs stands for each."""
    a = open_run(run_dir([line()], "a", checkpoint={"name": "one"}, decode={"temperature": 0}))
    b = open_run(run_dir([line()], "b", decode={"temperature": 0}))
    same, differing = settings_rows(shown_runs([(run, score_run(run)) for run in (a, b)]))
    assert ("decoding", "temperature 0") in same
    assert ("checkpoint", ["one", "not recorded"]) in differing
    assert not any(name == "engine" for name, _ in same)


def test_loops_are_listed_longest_first(show, line, rec, text):
    """Each loop has its image and the number of copies; the total is told."""
    lines = [
        line(text(*[rec("cat", 0, 0, 500, 500)] * copies), [CAT], id=str(copies))
        for copies in (4, 20, 9)
    ]
    rows, total = loop_rows([show(lines)])
    assert total == 3
    assert [row.repeats for row in rows] == ["20", "9", "4"]
    assert rows[0].link == "#run=run&id=20"


def test_every_metric_is_listed(show, line, rec, text):
    """The full table holds each key that scoring gave, with its meaning."""
    shown = show([line(text(rec("cat", 1)), [CAT])])
    rows = all_metrics([shown])
    assert [row.key for row in rows] == list(shown.result.metrics)
    assert all(row.meaning for row in rows)


@pytest.mark.parametrize("path", sorted(DUMPS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_kind_of_failure_has_a_page(path):
    """No dump of failures breaks the report."""
    run = open_run(path)
    if path.stem == "object-map":
        run = replace(run, meta={"dialect": {"name": "object-map", "container": "map"}})
    report = build_report(shown_runs([(run, score_run(run))]))
    assert report.images == sum(1 for _ in run.rollouts())
    assert report.html.count("<script") >= 7
