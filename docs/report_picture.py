"""images/report.png: the gallery of the report of two recorded runs, as Chromium shows it.

Not part of docs/generate.py, because it needs a browser, and because fonts differ between machines:
it is made again by hand where the page has changed, `make report-picture`.

Run: python docs/report_picture.py [--out docs/images/report.png]
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
RUNS = DOCS.parent / "fixtures" / "runs"
PICTURE = DOCS / "images" / "report.png"
SHOWN = ("ckpt-300", "ckpt-2400")
WIDTH, HEIGHT = 1200, 800
COLOURS = 128  # of the picture's palette: half the bytes, and the eye sees no difference
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def write_page(path: Path) -> None:
    """The page of `coordeval report fixtures/runs/ckpt-300 fixtures/runs/ckpt-2400`."""
    from coordeval.metrics.score import score_run
    from coordeval.reports.charts.shown import shown_runs
    from coordeval.reports.html.report import build_report
    from coordeval.runs import open_run

    runs = [open_run(RUNS / name) for name in SHOWN]
    page = build_report(shown_runs([(run, score_run(run)) for run in runs]))
    path.write_text(page.html, encoding="utf-8")


def screenshot(page: Path, browser: str) -> bytes:
    """The page's gallery, its first image opened, as a PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        opened = chromium.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
        )
        opened.goto(page.as_uri())
        opened.wait_for_selector("#detail > *")
        gallery = opened.locator("#gallery")
        opened.evaluate("document.querySelector('#gallery').scrollIntoView()")
        opened.wait_for_timeout(1000)  # thumbnails are decoded when they come into view
        shot: bytes = gallery.screenshot()
        chromium.close()
    return shot


def with_palette(png: bytes) -> bytes:
    """The same picture in fewer bytes."""
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> int:
    """Write the picture; 2 where there is no browser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE")
    options = parser.parse_args()
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if browser is None:
        print("there is no chromium: install it, or name it in $CHROMIUM", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_page(page)
        options.out.write_bytes(with_palette(screenshot(page, browser)))
    print(f"{options.out.name}: {options.out.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
