"""Report pages opened from disk in a real Chromium; skipped where there is none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.report import build_report
from coordeval.runs import open_run

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RUNS = Path(__file__).parents[2] / "fixtures" / "runs"


def run_directory(folder, lines, **meta):
    """A run directory of raw rollout lines; bins are pixels of a 1000 x 1000 image."""
    folder.mkdir(parents=True)
    (folder / "rollouts.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    head = {"format": "coordeval-run/1", "frame": "unit-1000"} | meta
    (folder / "run.json").write_text(json.dumps(head))
    return folder


def report_page(path, *folders, **options):
    """The report of runs as a file."""
    opened = [open_run(Path(folder)) for folder in folders]
    report = build_report(shown_runs([(run, score_run(run)) for run in opened]), **options)
    path.write_text(report.html, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def write_run():
    """The writer of run directories."""
    return run_directory


@pytest.fixture(scope="session")
def write_page():
    """The writer of report pages."""
    return report_page


@pytest.fixture(scope="session")
def chromium():
    """The browser; $CHROMIUM names another executable than the one on the path."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page that was opened from disk, with all that it complained about or asked for."""

    def __init__(self, browser, path, fragment="", **context):
        self.context = browser.new_context(
            **({"viewport": {"width": 1280, "height": 900}} | context)
        )
        self.page = self.context.new_page()
        self.complaints, self.requests, self.dialogs = [], [], []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri() + fragment)
        if self.page.locator("#gallery").count():
            self.page.wait_for_selector("#detail > *")
        for chart in self.page.locator(".chart").all():
            chart.locator("svg").first.wait_for()

    def _listen(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _dismiss(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    @property
    def fetched(self):
        """Everything that was asked for besides the page and the data inside it."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]


@pytest.fixture
def visit(chromium):
    """Open a page; after the test it must have raised no error and asked for nothing."""
    opened = []

    def go(path, fragment="", **context):
        opened.append(Opened(chromium, path, fragment, **context))
        return opened[-1].page

    yield go
    for item in opened:
        item.context.close()
        assert item.complaints == []
        assert item.dialogs == []
        assert item.fetched == []


@pytest.fixture(scope="session")
def story_page(tmp_path_factory):
    """The report of the two recorded checkpoints."""
    path = tmp_path_factory.mktemp("story") / "report.html"
    return report_page(path, RUNS / "ckpt-300", RUNS / "ckpt-2400")
