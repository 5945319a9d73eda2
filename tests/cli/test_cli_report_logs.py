"""`coordeval report --logs`: with and without a run, as a figure, and what is refused."""

import json
from pathlib import Path

import pytest
from forked_commands import run_forked

FIXTURES = Path(__file__).parents[2] / "fixtures"
LOGS = FIXTURES / "logs" / "summary-4b"
RUN = FIXTURES / "runs" / "ckpt-300"


def report(*arguments, cwd=None):
    return run_forked("report", *arguments, cwd=cwd)


def test_logs_alone_make_a_page_in_the_working_folder(tmp_path):
    """No RUN is needed; stdout counts trainings and curves."""
    done = report("--logs", LOGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("report.html  (3 trainings, 8 curves, ")
    assert done.stderr == ""
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "improves until 400, then worsens" in html


def test_logs_beside_a_run(tmp_path):
    """The section is added to the run's page; --json counts both; several --logs add up."""
    page = tmp_path / "x.html"
    one, two = LOGS / "pure_ce_only", f"mixed={LOGS / 'soft_ce_hard_ce_mixed'}"
    done = report(RUN, "--logs", one, "--logs", two, "-o", page, "--json", "--image-size", "640")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["runs"] == ["ckpt-300"]
    assert facts["trainings"] == ["pure_ce_only", "mixed"]
    html = page.read_text(encoding="utf-8")
    assert '<section id="training">' in html
    assert '<section id="gallery">' in html
    assert "640 x 640 px" in html


def test_the_curves_as_a_figure(tmp_path):
    """--figure dynamics draws the chosen curves to a file."""
    target = tmp_path / "d.svg"
    arguments = ["--figure", "dynamics", "--curve", "coord_diag/soft_ce", "-o", target]
    assert report("--logs", LOGS, *arguments).returncode == 0
    svg = target.read_text(encoding="utf-8")
    assert "turns at 400" in svg
    assert "coord_diag/w1" not in svg


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to report: name a RUN, or training logs with --logs"),
        (["--figure", "dynamics", RUN], "--figure dynamics needs training logs"),
        (["--figure", "drops", "--logs", LOGS], "--figure drops needs a RUN"),
        (["--curve", "loss", RUN], "--curve needs --logs"),
        (["--image-size", "640", RUN], "--image-size needs --logs"),
        (["--accumulation", "8", RUN], "--accumulation needs --logs"),
        (["--patch", "14", "--logs", LOGS], "--patch needs --image-size"),
        (["--image-size", "big", "--logs", LOGS], "write WIDTHxHEIGHT"),
        (["--curve", "coord_diag/w2", "--logs", LOGS], "did you mean 'coord_diag/w1'"),
        (["--logs", "/nonexistent"], "no such file or folder"),
    ],
)
def test_what_does_not_fit_is_exit_2_with_one_line(tmp_path, arguments, message):
    """Each refusal says what is missing, and leaves no file."""
    done = report(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
