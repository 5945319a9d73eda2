"""Figures: their numbers against closed forms and against the metrics, and their files."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.errors import ConfigError, DataError
from coordeval.metrics.score import score_run
from coordeval.reports.charts import (
    bin_errors,
    counts,
    drops,
    f1_iou,
    precision_recall,
    repeats,
    slots,
    steps,
    waterfall,
)
from coordeval.reports.charts.figures import FIGURES, figure_named
from coordeval.reports.charts.palette import vega_config
from coordeval.reports.charts.render import render
from coordeval.reports.charts.shown import shown_runs, step_of
from coordeval.runs import Run, open_run

CAT = {"desc": "cat", "bbox_2d": [0, 0, 500, 500]}


def rows(figure):
    return figure.spec["data"]["values"]


def test_a_curve_has_one_point_per_distinct_score():
    """Tied predictions enter together; ignored ones do not count."""
    scores = np.array([0.9, 0.8, 0.8, 0.1, 0.5])
    right = np.array([True, True, False, True, False])
    ignored = np.array([False, False, False, False, True])
    curve = precision_recall.precision_recall(scores, right, ignored, 4)
    assert curve.tolist() == [[0.25, 1.0], [0.5, 2 / 3], [0.75, 0.75]]


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans(), st.booleans()), max_size=30)
)
def test_a_curve_ends_where_all_predictions_are_in(items):
    """The last point is plain precision and recall."""
    scores = np.array([item[0] for item in items])
    right = np.array([item[1] for item in items], dtype=bool)
    ignored = np.array([item[2] and not item[1] for item in items], dtype=bool)
    curve = precision_recall.precision_recall(scores, right, ignored, 40)
    counted = int((~ignored).sum())
    if not counted:
        assert curve.shape == (0, 2)
        return
    assert curve[-1].tolist() == pytest.approx([right.sum() / 40, right.sum() / counted])
    assert (np.diff(curve[:, 0]) >= 0).all()


def test_curves_end_at_the_f1_numbers(show, line, rec, text):
    """The dot of the figure is precision and recall of f1/0.50."""
    answer = text(rec("cat", 0, 0, 500, 500), rec("cat", 600, 600, 700, 700))
    shown = show([line(answer, [CAT], scores=[0.9, 0.4])])
    ends = [row for row in rows(precision_recall.figure([shown])) if row["end"]]
    at_half = next(row for row in ends if row["IoU"] == "IoU 0.50")
    assert at_half["precision"] == shown.result.metrics["f1/0.50/precision"]
    assert at_half["recall"] == shown.result.metrics["f1/0.50/recall"]


def test_drop_bars_add_up_to_the_dropped_records(show, line, rec, text):
    """Every dropped record is in one bar, also where there are more reasons than bars."""
    broken = [rec("cat", *([1] * size)) for size in (1, 2, 3, 5)]
    broken += [f'{{"desc": "cat", "key{n}": 1}}' for n in range(30)]
    shown = show([line(text(*broken), [CAT])])
    figure = drops.figure([shown])
    assert sum(row["records"] for row in rows(figure)) == 34
    assert shown.result.metrics["parse/dropped_invalid"] == 34
    assert rows(figure)[-1]["reason"] == "(all others)"
    assert "34 of 34" in figure.alt


def test_bin_errors_are_in_bins_of_the_frame(show, line, rec, text):
    """A box five bins to the right is off by five in x, by none in y, whatever the image size."""
    gt = [{"desc": "cat", "bbox_2d": [0, 0, 1000, 100]}]
    item = line(text(rec("cat", 5, 0, 505, 200)), gt) | {"width": 2000, "height": 500}
    errors = bin_errors.bin_errors(show([item]).result)
    assert errors.tolist() == [pytest.approx([5.0, 0.0, 5.0, 0.0])]


def test_bin_error_histogram_holds_every_coordinate(show, line, rec, text):
    """Errors beyond the limit stand in the outermost step; shares add up to one."""
    shown = show([line(text(rec("cat", 0, 0, 500, 450)), [CAT])])
    figure = bin_errors.figure([shown])
    assert sum(row["coordinates"] for row in rows(figure)) == 4
    assert {row["error"]: row["coordinates"] for row in rows(figure) if row["coordinates"]} == {
        0: 3,
        -25: 1,
    }


def test_count_circles_hold_every_image_that_was_evaluated(show, line, rec, text):
    """Images with an engine error are left out, all others are in one circle."""
    lines = [
        line(text(rec("cat", 0, 0, 500, 500)), [CAT], id="a"),
        line(text(), [CAT], id="b"),
        line("", [CAT], id="c", error="no image"),
    ]
    figure = counts.figure([show(lines)])
    assert {(row["true"], row["predicted"]): row["images"] for row in rows(figure)} == {
        (1, 1): 1,
        (1, 0): 1,
    }


def test_repeats_are_banded(show, line, rec, text):
    """An image with five copies of one record has four repeats."""
    shown = show([line(text(*[rec("cat", 0, 0, 500, 500)] * 5), [CAT])])
    bands = {row["repeats"]: row["images"] for row in rows(repeats.figure([shown]))}
    assert bands == {"1": 0, "2–3": 0, "4–7": 1, "8–15": 0, "16–31": 0, "32 and more": 0}


def test_the_waterfall_reaches_one(show, line, rec, text):
    """Steps hang together: each starts where the one before ended, the last ends at 1."""
    answer = text(rec("cat", 0, 0, 500, 500), rec("dog", 600, 600, 700, 700), rec("cat", 1, 2, 3))
    shown = show([line(answer, [CAT, {"desc": "dog", "bbox_2d": [0, 900, 50, 950]}])])
    steps_ = rows(waterfall.figure([shown]))
    assert steps_[0]["to"] == pytest.approx(shown.result.metrics["f1/0.50/f1"], abs=1e-5)
    for before, after in zip(steps_, steps_[1:], strict=False):
        assert after["from"] == before["to"]
    assert steps_[-1]["to"] == pytest.approx(1.0)


def test_steps_come_from_the_meta_or_the_name(run_dir, line):
    """A step in run.json, a folder step_000300, a checkpoint folder; ckpt-300 is only a name."""

    def step(name, **meta):
        return step_of(open_run(run_dir([line()], name, **meta)))

    assert step("step_000300") == 300
    assert step("eval/step_000300-3f2a") == 300
    assert step("checkpoint-1200") == 1200
    assert step("ckpt-300") is None
    assert step("footstep_9") is None
    assert step("x", step=7) == 7
    assert step("y", checkpoint={"name": "checkpoint-40"}) == 40


def test_metrics_over_steps_are_sorted_and_named(show, line, rec, text):
    """Runs of two steps give a line per metric, in the order of the steps."""
    good = show([line(text(rec("cat", 0, 0, 500, 500)), [CAT])], "step_000200")
    bad = show([line(text(), [CAT])], "step_000100")
    figure = steps.figure([good, bad])
    recall = [row for row in rows(figure) if row["metric"] == "recall at IoU .50"]
    assert [(row["step"], row["value"]) for row in recall] == [(100, 0.0), (200, 1.0)]
    assert steps.figure([good]).spec is None


def test_slot_telemetry_is_the_mean_per_slot(show, line, tmp_path):
    """Shares are averaged per slot; what is no share is left out; a broken file is a DataError."""
    shown = show([line()])
    assert slots.figure([shown]).spec is None
    table = pd.DataFrame(
        {"slot": [0, 0, 1, 3], "mass": [1.0, 0.5, 0.25, None], "entropy": [3.0, 4.0, 5.0, 6.0]}
    )
    table.to_parquet(shown.run.path / "slots.parquet")
    found = {(row["quantity"], row["slot"]): row["mean"] for row in rows(slots.figure([shown]))}
    assert found == {("mass", "x1"): 0.75, ("mass", "y1"): 0.25}
    (shown.run.path / "slots.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"slots\.parquet"):
        slots.figure([shown])


def test_labels_differ_and_are_printable(tmp_path, run_dir, line):
    """Runs of one name are told apart by their parents; hostile names are escaped."""
    paths = [run_dir([line()], name) for name in ("a/run", "b/run", "c/\u202erun\x1b")]
    runs = [open_run(path) for path in paths]
    labels = [shown.label for shown in shown_runs([(run, score_run(run)) for run in runs])]
    assert labels == ["a/run", "b/run", "c/\\u202erun\\x1b"]
    same = shown_runs([(run, score_run(run)) for run in [runs[0], runs[0]]])
    assert len({shown.label for shown in same}) == 2


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_bears_an_empty_run(show, name):
    """A run without any line has figures without a specification, and a reason."""
    figure = FIGURES[name]([show([])])
    assert figure.spec is None
    assert figure.missing


def test_unknown_and_empty_figures_are_configuration_errors(show, line):
    """The nearest name is offered; nothing to draw says why."""
    shown = show([line()])
    with pytest.raises(ConfigError, match="did you mean 'drops'"):
        figure_named("drop", [shown])
    with pytest.raises(ConfigError, match=r"No record was dropped"):
        figure_named("drops", [shown])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_written_as_svg_and_png(show, line, rec, text, theme):
    """Both forms come out whole and without looking anything up."""
    shown = show([line(text(rec("cat", 0, 0, 500, 500)), [CAT])])
    figure = f1_iou.figure([shown])
    svg = render(figure, "svg", theme)
    assert svg.startswith(b"<svg")
    assert b"F1 against IoU" in svg
    png = render(figure, "png", theme)
    assert png.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="unknown form"):
        render(figure, "pdf", theme)


def test_markup_in_names_is_escaped_in_svg_files(show, line, rec):
    """A key that is markup stands in the SVG file as text."""
    bad = '{"objects": [{"desc": "cat", "<script>alert(1)</script>": 1}]}'
    svg = render(drops.figure([show([line(bad, [CAT])])]), "svg")
    assert b"<script" not in svg
    assert b"&lt;script" in svg


def test_both_themes_colour_eight_runs_differently():
    """The run colours of a theme are distinct."""
    for theme in ("light", "dark"):
        colours = vega_config(theme)["range"]["category"]
        assert len(set(colours)) == len(colours) >= 8


def test_alternative_texts_have_numbers(show, line, rec, text):
    """Every figure that is drawn says in words what it shows."""
    answer = text(rec("cat", 0, 0, 500, 500), rec("cat", 0, 0, 500, 500), rec("cat", 1))
    shown = show([line(answer, [CAT])])
    assert isinstance(shown.run, Run)
    for name, build in FIGURES.items():
        figure = build([shown])
        if figure.spec is not None:
            assert any(sign.isdigit() for sign in figure.alt), name
            assert figure.alt in figure.spec["description"]
