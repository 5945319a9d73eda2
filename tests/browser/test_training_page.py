"""A page of training logs alone in a real browser."""

from pathlib import Path

import pytest

from coordeval.dynamics.analysis import analyse
from coordeval.dynamics.discover import read_logs
from coordeval.reports.html.training import training_part
from coordeval.reports.html.training_page import build_training_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LOGS = Path(__file__).parents[2] / "fixtures" / "logs" / "summary-4b"


@pytest.fixture(scope="module")
def training_page(tmp_path_factory):
    """The page of the three trainings whose pure cross entropy turns."""
    path = tmp_path_factory.mktemp("training") / "report.html"
    part = training_part(analyse(read_logs([LOGS])))
    path.write_text(build_training_page(part).html, encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_turning_point_is_seen(training_page, visit, tmp_path, width, theme):
    """The curve of pure CE is marked at step 400, in the figure and in words, in both themes."""
    page = visit(training_page, viewport={"width": width, "height": 844}, color_scheme=theme)
    chart = page.locator("#chart-dynamics-1")
    assert chart.locator("svg text", has_text="turns at 400: 4.1900").last.is_visible()
    assert "pure_ce_only: improves until 400" in chart.get_attribute("aria-label")
    flagged = page.locator(".training-trends tr.flagged")
    assert flagged.count() == 1
    assert "improves until 400, then worsens" in flagged.inner_text()
    assert page.locator(".chart svg").count() == page.locator(".chart").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#theme").click()
    other = "dark" if theme == "light" else "light"
    page.locator(f'#chart-dynamics-1[data-drawn="{other}"] svg').wait_for()
    shot = tmp_path / f"{width}-{theme}.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000
