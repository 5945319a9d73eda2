"""`coordeval compare`: what it prints, its exit codes, hostile text, checkpoints, no torch."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import run_forked

FIXTURES = Path(__file__).parents[2] / "fixtures"
RUNS = FIXTURES / "runs"
GOOD, BAD = RUNS / "ckpt-300", RUNS / "ckpt-2400"
QUICK = ("--draws", "200", "--coco-draws", "20")


@functools.cache
def run(*arguments, cwd=None, attempt=1, model=False):
    """One call of the command; the same call is made once, unless it is another attempt."""
    return run_forked("compare", *arguments, cwd=cwd, model=model)


def copy_of(source, folder, change):
    """A run with every line changed by a function."""
    shutil.copytree(source, folder)
    path = folder / "rollouts.jsonl"
    lines = [change(json.loads(text)) for text in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(item) + "\n" for item in lines if item is not None))
    return folder


def test_the_recorded_runs_give_a_verdict_and_the_reasons():
    """The degraded checkpoint is worse; its drops, outliers, movers and slices are told."""
    done = run(GOOD, BAD)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "B is worse than A" in text
    assert "differs  checkpoint: ckpt-300" in text and "same     64 images" in text
    for word in ("wrong_arity/foreign_token", '"第九" in slot 1', "unexpected_keys/bbox_3d"):
        assert word in text
    for word in ("images are better", "look at one: coordeval inspect", "class: red circle"):
        assert word in text
    assert "Paired bootstrap over 64 images, 2,000 draws" in text
    assert "Benjamini-Hochberg" in text and "percentile" in text
    assert "…" not in text, "a cell is cut off"
    assert all(len(line) <= 110 for line in text.splitlines())


def test_the_command_that_it_suggests_works():
    """The inspect command in the output can be run as it stands."""
    import shlex

    text = run(GOOD, BAD, *QUICK).stdout
    (line,) = [item for item in text.splitlines() if item.startswith("look at one: ")]
    command = shlex.split(line.removeprefix("look at one: "))
    assert command.pop(0) == "coordeval"
    done = run_forked(*command)
    assert done.returncode == 0 and command[-1] in done.stdout


def test_json_holds_every_metric_with_its_evidence():
    """One document on stdout: metrics, method, settings, reasons."""
    done = run(GOOD, BAD, "--json", *QUICK)
    document = json.loads(done.stdout)
    assert document["format"] == "coordeval-comparison/1"
    assert document["images"] == 64
    assert document["method"]["draws"] == 200 and document["method"]["interval"] == "percentile"
    assert list(document["settings"]["differs"]) == ["checkpoint"]
    (comparison,) = document["comparisons"]
    change = comparison["metrics"]["parse/drop_rate"]
    assert change["verdict"] == "worse" and change["low"] > 0
    assert set(comparison) == {
        "run",
        "verdicts",
        "metrics",
        "drops",
        "movers",
        "drop_movers",
        "slices",
    }
    assert [part["percent"] for part in comparison["movers"]["worst"]] == [1, 5, 10]


def test_markdown_is_tables_that_foreign_text_cannot_break(tmp_path):
    """Evidence and paths are literal text: no markup, no HTML, no cell breaks, no mentions."""
    nasty = "|<img src=x onerror=alert(1)>`@all`[x](http://e.x)\x1b[31m"

    def spoil(item):
        return item | {"text": item["text"].replace("[<|coord_", "[" + nasty + ", <|coord_", 1)}

    bad = copy_of(GOOD, tmp_path / "b_*x*", spoil)
    done = run(GOOD, bad, "--markdown", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "<img" not in done.stdout and "\x1b" not in done.stdout
    assert "@all" not in done.stdout and "http://" not in done.stdout
    tables = [line for line in done.stdout.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in tables}
    assert widths <= {5, 7}
    assert "wrong\\_arity/foreign\\_token" in done.stdout
    plain = run(GOOD, bad, *QUICK).stdout
    assert "\x1b" not in plain


def test_half_a_surrogate_in_a_text_survives_json(tmp_path):
    """Text that is not valid Unicode is evidence like any other."""
    bad = copy_of(
        GOOD,
        tmp_path / "b",
        lambda item: item | {"text": item["text"].replace("[<|coord_", "[\ud800, <|coord_", 1)},
    )
    done = run(GOOD, bad, "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["comparisons"][0]["drops"]
    assert any(example["evidence"] == "\ud800" for row in rows for example in row["examples"][1])
    assert run(GOOD, bad, *QUICK).returncode == run(GOOD, bad, "--markdown", *QUICK).returncode == 0


def test_identical_runs_are_said_to_be_identical():
    """A run against itself: no verdict but ~, and a sentence that says so."""
    done = run(GOOD, GOOD, *QUICK)
    assert "wrote the same on all 64 images" in done.stdout
    assert "worse" not in done.stdout.split("Paired bootstrap")[0]


def test_three_runs_have_a_column_each():
    """A is the reference, every other run gets its value, difference and verdict."""
    done = run(GOOD, BAD, RUNS / "shapes-final", *QUICK)
    assert done.returncode == 0
    assert "B is worse than A" in done.stdout and "C is better than A" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("parse/drop_rate")]
    assert row.split()[1:] == ["0.0", "%", "24.1", "%", "+24.1", "worse", "0.0", "%", "0.0", "~"]


def test_fail_on_worse_decides_the_exit_code():
    """0 whatever is found; with --fail-on worse 1 for a regression only."""
    assert run(GOOD, BAD, *QUICK).returncode == 0
    assert run(GOOD, BAD, *QUICK, "--fail-on", "worse").returncode == 1
    assert run(BAD, GOOD, *QUICK, "--fail-on", "worse").returncode == 0
    assert run(GOOD, GOOD, *QUICK, "--fail-on", "worse").returncode == 0


def test_what_does_not_compare_ends_with_4(tmp_path):
    """Other ground truth and no common ids: 4, one line; marked where it is allowed."""
    moved = copy_of(GOOD, tmp_path / "gt", lambda item: item | {"width": item["width"] + 1})
    done = run(GOOD, moved, *QUICK)
    assert done.returncode == 4 and done.stdout == ""
    assert "ground truth" in done.stderr and len(done.stderr.splitlines()) == 1
    allowed = run(GOOD, moved, *QUICK, "--allow-mismatch")
    assert allowed.returncode == 0 and "NOT COMPARABLE" in allowed.stdout
    renamed = copy_of(GOOD, tmp_path / "ids", lambda item: item | {"id": "x" + item["id"]})
    assert run(GOOD, renamed, *QUICK).returncode == 4
    assert run(GOOD, renamed, *QUICK, "--allow-mismatch").returncode == 4


def test_required_settings_decide_the_exit_code():
    """--require-same: 4 where it differs, 0 where it is the same, 2 for an unknown setting."""
    assert run(GOOD, BAD, *QUICK, "--require-same", "decode,engine,prompt").returncode == 0
    assert run(GOOD, BAD, *QUICK, "--require-same", "checkpoint").returncode == 4
    assert run(GOOD, BAD, *QUICK, "--require-same", "colour").returncode == 2


def test_unpaired_images_are_listed(tmp_path):
    """What only one run holds is left out and named."""
    part = copy_of(BAD, tmp_path / "b", lambda item: None if item["id"] == "0007" else item)
    done = run(GOOD, part, *QUICK)
    assert done.returncode == 0
    assert "A: 1 image without a partner, left out ('0007')" in done.stdout.replace("\n", " ")
    assert "63 images" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((GOOD,), "two runs"),
        ((GOOD, "nowhere"), "no such run"),
        ((GOOD, FIXTURES / "scenes"), "neither a run"),
        ((GOOD, BAD, "--draws", "3"), "--draws"),
        ((GOOD, BAD, "--json", "--markdown"), "exclude"),
        ((GOOD, BAD, "--protocol", "nope"), "unknown protocol"),
    ],
)
def test_faults_of_the_user_are_one_line_and_2(arguments, words):
    """What is wrong, where, and how to mend it."""
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_bare_files_compare_too():
    """Files of rollout lines need no run.json."""
    dump = FIXTURES / "dumps" / "key-drift.jsonl"
    done = run(dump, dump, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "wrote the same" in done.stdout


def test_all_shows_further_metrics():
    """--all lists every metric that differs, the headline ones too."""
    short, full = run(GOOD, BAD, *QUICK).stdout, run(GOOD, BAD, *QUICK, "--all").stdout
    assert "f1/0.75/recall" in full and "f1/0.75/recall" not in short
    assert "further metrics differ" in short and "further metrics differ" not in full


def test_it_needs_no_torch(tmp_path):
    """On runs, nothing of a model library is imported, whatever is installed."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
        "from coordeval.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", str(GOOD), str(BAD), *QUICK],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "B is worse than A" in done.stdout


@pytest.mark.slow
def test_checkpoints_are_rolled_out_with_equal_settings_and_cached(tmp_path):
    """Two checkpoints by name: runs appear under runs/, share their settings, and are used again."""
    for name in ("ckpt-300", "ckpt-2400"):
        (tmp_path / name).symlink_to(FIXTURES / name)
    (tmp_path / "coordeval.toml").write_text(f'data = "{FIXTURES / "scenes" / "heldout.jsonl"}"\n')
    arguments = ("ckpt-300", "ckpt-2400", "--limit", "8", "--json", *QUICK)
    first = run(*arguments, cwd=tmp_path, model=True)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert list(document["settings"]["differs"]) == ["checkpoint"]
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(folders) == 2
    # A line holds how long it took, so that a rollout that is made again shows.
    before = [path.read_bytes() for path in sorted(tmp_path.glob("runs/*/rollouts.jsonl"))]
    again = run(*arguments, cwd=tmp_path, attempt=2, model=True)
    assert json.loads(again.stdout)["comparisons"] == document["comparisons"]
    after = [path.read_bytes() for path in sorted(tmp_path.glob("runs/*/rollouts.jsonl"))]
    assert before == after
    words = (f"runs/{folders[0]}", "ckpt-300", "--json", *QUICK)
    mixed = run(*words, cwd=tmp_path, model=True)
    assert mixed.returncode == 0, mixed.stderr
    assert set(json.loads(mixed.stdout)["settings"]["differs"]) <= {"checkpoint"}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == folders
