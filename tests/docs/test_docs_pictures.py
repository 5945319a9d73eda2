"""The README shows the terminal and the report as they are."""

import re
import subprocess
import sys

import pytest
from page_blocks import DOCS, ROOT, docs_module
from PIL import Image

report_picture = docs_module("report_picture")


def test_the_readme_shows_the_terminal_and_the_report():
    """Two pictures: the comparison that `make docs` draws, and the report page in a browser."""
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown == ["docs/images/compare.svg", "docs/images/report.png"]


def test_the_report_is_large_enough_to_be_read_and_small_enough_to_be_kept():
    """A whole PNG as wide as a page, of at most 200 KiB."""
    path = DOCS / "images" / "report.png"
    with Image.open(path) as image:
        image.load()
        assert image.width > 1000
        assert 500 < image.height < 1200
    assert path.stat().st_size < 200 * 1024


def test_without_a_browser_the_picture_stays(monkeypatch, tmp_path, capsys):
    """One line and exit code 2 where there is no Chromium."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr("sys.argv", ["report_picture.py", "--out", str(tmp_path / "x.png")])
    assert report_picture.main() == 2
    assert "chromium" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
def test_the_picture_is_taken_of_the_page(tmp_path):
    """What is stored is as wide as what the page gives today, in a browser of its own."""
    pytest.importorskip("playwright")
    out = tmp_path / "report.png"
    done = subprocess.run(
        [sys.executable, report_picture.__file__, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    with Image.open(out) as now, Image.open(report_picture.PICTURE) as stored:
        assert now.width == stored.width
