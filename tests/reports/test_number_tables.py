"""Tables in narrow terminals: no number of a report is cut."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from coordeval.metrics.attribution.against import measure_against
from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.score import score_run
from coordeval.reports.attribution import attribution_report
from coordeval.reports.comparison import comparison_report
from coordeval.reports.number_table import NumberTable
from coordeval.reports.terminal import score_report
from coordeval.reports.worst import render_worst, worst_rows
from coordeval.runs import open_run
from coordeval.stats.comparison import CompareOptions, compare_runs

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")


def shown(renderable, width):
    console = Console(width=width, record=True, file=io.StringIO(), markup=False, emoji=False)
    console.print(renderable)
    return console.export_text()


def numbers(text):
    return sorted(NUMBER.findall(text))


@pytest.fixture(scope="module")
def reports():
    """Every report made anew on each call: what was rendered narrow is not rendered again."""
    good, bad = open_run(RUNS / "ckpt-300"), open_run(RUNS / "ckpt-2400")
    scored = score_run(bad)
    compared = compare_runs([good, bad], options=CompareOptions(draws=100, coco_draws=100))
    costs, against = attribute(scored), measure_against(bad, good)
    return {
        "score": lambda _width: score_report(scored, name="run", meta={}),
        "inspect": lambda _width: render_worst(worst_rows(scored.per_image, 20), total=64),
        "compare": lambda width: comparison_report(compared, width=min(width, 100)),
        "attribute": lambda _width: attribution_report(costs, name="run", against=[against]),
    }


@pytest.mark.parametrize("name", ["score", "inspect", "compare", "attribute"])
@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_shows_every_number_whole(reports, name, width):
    """At 80 and at 60 columns a report shows the numbers that it shows at 300, and cuts none."""
    narrow = shown(reports[name](width), width)
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= width
    assert set(numbers(narrow)) >= {
        number for number in numbers(shown(reports[name](300), 300)) if "." in number
    }


def test_a_table_that_fits_keeps_its_gaps():
    """Where there is room, a number table is rendered as any other table."""
    table = NumberTable(box=None)
    table.add_text("name")
    table.add_number("two words")
    table.add_row("a", "1.25")
    assert shown(table, 40).splitlines()[0].split("  ")[-1].strip() == "two words"
