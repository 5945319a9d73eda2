"""`coordeval report`: where it writes, what it prints, and its exit codes."""

import json
import re
from pathlib import Path

import pytest
from forked_commands import run_forked

DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"
TEXT = '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_0|>, <|coord_0|>, <|coord_500|>, <|coord_500|>]}]}'
LINE = {
    "id": "a",
    "width": 1000,
    "height": 1000,
    "gt": [{"desc": "cat", "bbox_2d": [0, 0, 500, 500]}],
    "text": TEXT,
}


def report(*arguments, cwd=None):
    return run_forked("report", *arguments, cwd=cwd)


@pytest.fixture
def run(tmp_path):
    """A run directory with one image."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "rollouts.jsonl").write_text(json.dumps(LINE) + "\n")
    (folder / "run.json").write_text(json.dumps({"format": "coordeval-run/1"}))
    return folder


def test_a_run_gets_its_report_into_its_folder(run):
    """The page of one run directory is RUN/report.html; stdout names it, stderr is silent."""
    done = report(run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{run / 'report.html'}  (1 image, 0 thumbnails, ")
    assert done.stderr == ""
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "Content-Security-Policy" in html


def test_json_says_what_was_written(run, tmp_path):
    """--json is one document with sizes and counts."""
    page = tmp_path / "x.html"
    done = report(run, "-o", page, "--json")
    facts = json.loads(done.stdout)
    assert facts["path"] == str(page)
    assert facts["bytes"] == page.stat().st_size
    assert (facts["images"], facts["records"], facts["images_unnamed"]) == (1, 1, 1)
    assert not (run / "report.html").exists()


def test_several_runs_and_bare_files_go_to_the_working_folder(run, tmp_path):
    """Without -o, report.html appears where the command was given."""
    done = report(run, DUMPS / "broken-records.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()


def test_the_page_names_no_address(run):
    """No link or source leads out of the page, the namespaces of the chart library aside."""
    report(run)
    html = (run / "report.html").read_text(encoding="utf-8")
    ours = html.split("<script>")[0] + html.split("<script>")[2]
    known = r"https?://(?!vega\.github\.io/schema/|www\.w3\.org/2000/svg)"
    assert re.findall(known, ours) == []
    assert '<link rel="stylesheet"' not in html
    assert "src=" not in html.split("<script>")[0]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_single_figure_is_a_file(run, tmp_path, form):
    """--figure writes that figure alone, in the form that is asked for."""
    target = tmp_path / f"f.{form}"
    assert report(run, "--figure", "f1_iou", "--format", form, "-o", target).returncode == 0
    assert target.read_bytes().startswith({"svg": b"<svg", "png": b"\x89PNG"}[form])
    by_suffix = tmp_path / f"g.{form}"
    assert report(run, "--figure", "f1_iou", "-o", by_suffix).returncode == 0
    assert by_suffix.read_bytes() == target.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "drop"], "did you mean 'drops'"),
        (["--figure", "drops"], "No record was dropped"),
        (["--format", "svg"], "--format needs --figure"),
        (["--figure", "f1_iou", "-o", "x.pdf"], "name a .svg or .png file"),
        (["--image-root", "/nonexistent"], "no such folder"),
        (["--protocol", "nope"], "unknown protocol"),
        (["--dialect", "nope"], "unknown dialect"),
        (["-o", "/nonexistent/x.html"], "cannot be written"),
    ],
)
def test_wrong_options_are_exit_2_with_one_line(run, arguments, message):
    """A wrong option says what is wrong with it, and leaves no file."""
    done = report(run, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "report.html").exists()


def test_a_missing_run_is_exit_2(tmp_path):
    """A run that is not there is said in one line."""
    done = report(tmp_path / "nothing")
    assert done.returncode == 2
    assert "no such run" in done.stderr


def test_nothing_evaluated_is_exit_3_with_a_page_that_says_so(run):
    """An empty run has a page, and the command says that nothing was evaluated."""
    (run / "rollouts.jsonl").write_text("")
    done = report(run)
    assert done.returncode == 3
    assert "nothing was evaluated" in done.stderr
    assert "nothing was evaluated" in (run / "report.html").read_text(encoding="utf-8")


def test_missing_images_are_counted_on_stderr(run):
    """Images that are named but not there get plain frames, and a line that says how many."""
    (run / "rollouts.jsonl").write_text(json.dumps(LINE | {"image": "gone.png"}) + "\n")
    done = report(run)
    assert done.returncode == 0
    assert "could not be read, shown as plain frames: 1 (" in done.stderr
