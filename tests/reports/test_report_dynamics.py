"""Training logs in the report: which curves, what is marked, what is said, what is escaped."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.dynamics.analysis import analyse
from coordeval.dynamics.discover import read_logs
from coordeval.dynamics.units import parse_image_size
from coordeval.errors import ConfigError
from coordeval.reports.charts.dynamics import curves, figure
from coordeval.reports.charts.figures import dynamics_figure, require_figure
from coordeval.reports.charts.render import render
from coordeval.reports.charts.thinning import thinned
from coordeval.reports.charts.training_keys import selected_keys, training_labels
from coordeval.reports.html.page import chart_library
from coordeval.reports.html.report import build_report
from coordeval.reports.html.training import training_part
from coordeval.reports.html.training_page import build_training_page

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
BAD = "</script><img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def summary():
    """The three trainings whose pure cross entropy turns at step 400."""
    return analyse(read_logs([LOGS / "summary-4b"]))


@pytest.fixture
def dynamics(tmp_path):
    """Analyse made logs: name to rows of (step, values)."""

    def make(**logs):
        for name, rows in logs.items():
            (tmp_path / name).mkdir()
            lines = [json.dumps({"step": step} | values) + "\n" for step, values in rows]
            (tmp_path / name / "logging.jsonl").write_text("".join(lines))
        return analyse(read_logs([f"{name}={tmp_path / name}" for name in logs]))

    return make


def turning_points(chart):
    layers = [layer for layer in chart.spec["layer"] if layer["mark"].get("type") == "point"]
    return [row for layer in layers for row in layer["data"]["values"]]


def test_the_turn_of_pure_cross_entropy_is_marked_and_said(summary):
    """The first curve is the one that turns: one ring at step 400, its words in the alt text."""
    first, *others = curves(summary)
    assert first.title == "coord_diag/soft_ce"
    (ring,) = turning_points(first)
    assert (ring["run"], ring["step"], ring["value"]) == ("pure_ce_only", 400, 4.19)
    assert "pure_ce_only: improves until 400, then worsens" in first.alt
    assert "soft_ce_only: collapses early" in first.alt
    assert [turning_points(chart) for chart in others] == [[]] * len(others)


def test_every_point_of_a_short_log_is_drawn(summary):
    """The rows of a curve are the log's own steps and values, per training."""
    chart = curves(summary, ["coord_diag/w1"])[0]
    drawn = {}
    for row in chart.spec["data"]["values"]:
        drawn.setdefault(row["run"], []).append((row["step"], row["value"]))
    for log in summary.logs:
        series = log.get("eval", "coord_diag/w1")
        assert drawn[log.name] == list(zip(series.steps, series.values, strict=True))
    assert chart.spec["encoding"]["color"]["scale"]["domain"] == summary.names


def test_training_rows_are_dashed_beside_evaluation(dynamics):
    """Where a key has both, they are told apart by dashes with a legend; else neither is there."""
    both = dynamics(
        a=[(s, {"loss": 9.0 - s, "eval_loss": 8.0 - s, "eval_token_acc": s / 9}) for s in range(5)]
    )
    loss, accuracy = curves(both, ["loss", "eval_token_acc"])
    dash = loss.spec["layer"][0]["encoding"]["strokeDash"]
    assert dash["scale"]["domain"] == ["evaluation", "training"]
    assert dash["legend"]
    assert accuracy.spec["layer"][0]["encoding"]["strokeDash"]["legend"] is None


def test_other_names_of_a_key_select_it_and_unknown_ones_are_refused(summary):
    """A log's own name works as well; a wrong one gets the nearest."""
    assert selected_keys(summary, ["eval_coord_softce_w1/soft_ce", "coord_diag/soft_ce"]) == [
        "coord_diag/soft_ce"
    ]
    with pytest.raises(ConfigError, match="did you mean 'coord_diag/w1'"):
        selected_keys(summary, ["coord_diag/w2"])


def test_flat_unknown_and_undirected_keys_are_drawn_on_demand_alone(dynamics):
    """What does not move, or has no better direction, is not among the default curves."""
    found = dynamics(
        a=[
            (s, {"eval_loss": 5.0 - s, "eval_token_acc": 0.5, "mine": float(s), "lr": s / 10})
            for s in range(5)
        ]
    )
    assert selected_keys(found) == ["loss"]
    assert selected_keys(found, ["mine", "lr"]) == ["mine", "learning_rate"]


def test_nothing_to_draw_is_said(dynamics):
    """One row gives tables and no curve; the single figure is a configuration error."""
    found = dynamics(a=[(1, {"eval_loss": 1.0})])
    part = training_part(found)
    assert part.curves == ()
    assert "two points" in build_training_page(part).html
    with pytest.raises(ConfigError, match="--figure dynamics: nothing to draw"):
        dynamics_figure(found)
    with pytest.raises(ConfigError, match="did you mean 'dynamics'"):
        require_figure("dynamic")


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=300),
    st.integers(2, 40).map(lambda half: 2 * half),
)
def test_thinning_keeps_ends_and_extremes(values, limit):
    """At most `limit` of the points, in order, with the first, last, lowest and highest."""
    kept = thinned(range(len(values)), values, limit)
    assert len(kept) <= max(limit, 0)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert all(values[step] == value for step, value in kept)
    if values:
        left = [value for _, value in kept]
        assert (left[0], left[-1]) == (values[0], values[-1])
        assert (min(left), max(left)) == (min(values), max(values))


@pytest.mark.parametrize("low", [5e-324, 1e-300, -1e308, 0.0])
@pytest.mark.parametrize("high", [1e-300, 1.0, 1e149, 1.7e308])
def test_extreme_values_still_make_a_picture(dynamics, low, high):
    """Values at the ends of what a float holds neither break a scale nor its file."""
    found = dynamics(a=[(s, {"eval_loss": high if s % 2 else low}) for s in range(6)])
    drawn = [value for value in (low, high) if abs(value) < 1e150]
    if not drawn:
        assert "No value of loss can be drawn" in figure(found, ["loss"]).missing
        return
    svg = render(figure(found, ["loss"]), "svg")
    assert b"NaN" not in svg
    assert b"Infinity" not in svg
    assert ("3 beyond" in curves(found, ["loss"])[0].lead) == (len(drawn) == 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("wanted", [[], ["coord_diag/soft_ce"]])
def test_the_figure_of_all_curves_is_a_file(summary, theme, wanted):
    """One panel per key stands in it, the turning point in words."""
    svg = render(figure(summary, wanted), "svg", theme)
    assert svg.startswith(b"<svg")
    assert b"turns at 400: 4.1900" in svg
    titles = set(re.findall(rb">(coord_diag/[a-z_0-9]+)</text>", svg))
    assert len(titles) == (len(wanted) or 8)


def test_a_scaling_fault_is_flagged_in_words():
    """The ratio audit's flag stands among what stands out and marks its row."""
    part = training_part(analyse(read_logs([LOGS / "accumulation-fault"])))
    assert part.findings[0].where == "accumulation-fault, loss"
    assert "factor 1/8" in part.findings[0].text
    (ratios,) = [table for table in part.tables if table.kind == "ratios"]
    assert [row.marked for row in ratios.rows] == [True]
    assert "needs attention" in build_training_page(part).html


def test_the_page_holds_every_table_and_warning(summary):
    """Last values, course, common steps, pixels and cautions all stand in the page."""
    logs = read_logs([LOGS / "summary-4b"])
    part = training_part(analyse(logs, scale=parse_image_size("640x480")))
    kinds = [table.kind for table in part.tables]
    assert kinds == ["logs", "end", "snapshot", "snapshot", "common", "trends", "pixels"]
    assert part.cautions[0].startswith("text_token_acc")
    html = build_training_page(part).html
    for words in ("4.8058", "improves until 400, then worsens", "640 x 480 px", "not comparable"):
        assert words in html
    (end,) = [table for table in part.tables if table.kind == "end"]
    cells = {row.cells[0]: row.cells[1:] for row in end.rows}
    assert cells["eval coord_diag/soft_ce"] == ("4.8058", "3.6293", "3.5260")


def test_names_and_keys_of_logs_are_text(tmp_path):
    """Markup and direction marks in a key, a note or a name never reach the page as such."""
    folder = tmp_path / "<img src=x onerror=alert(2)>\u202e"
    folder.mkdir()
    rows = [{"step": s, f"eval_{BAD}": 5.0 - s, "eval_loss": 5.0 - s} for s in range(5)]
    rows.append({"step": 9, f"x{BAD}": float("nan")})
    (folder / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = analyse(read_logs([folder]))
    part = training_part(found, [BAD, "loss"])
    html = build_training_page(part).html
    html = html.replace(chart_library(), "")
    assert "<img" not in html
    assert html.count("</script>") == html.count("<script")
    assert "\u202e" not in html
    assert "&lt;img src=x onerror" in html
    assert b"<img" not in render(figure(found, [BAD]), "svg")


def test_labels_differ_however_long_the_names():
    """Names that are cut to the same end are numbered."""
    names = ["a" + "x" * 80, "b" + "x" * 80]
    labels = training_labels(names)
    assert len(set(labels.values())) == 2
    assert all(len(label) < 60 for label in labels.values())


def test_a_page_of_runs_takes_the_section(show, line, summary):
    """With runs, the training section stands between their sections and the gallery."""
    html = build_report([show([line()])], training=training_part(summary)).html
    places = [html.index(f'<section id="{name}">') for name in ("summary", "training", "gallery")]
    assert places == sorted(places)
    assert '<section id="training">' not in build_report([show([line()], "b")]).html


def test_a_page_of_logs_alone_keeps_the_policy_and_has_no_gallery(summary):
    """The same Content-Security-Policy, no gallery, no keys, and no script for them."""
    html = build_training_page(training_part(summary)).html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe" not in policy
    assert 'id="gallery"' not in html
    assert "coordeval.gallery =" not in html
    assert html.count('role="img"') == 8
