"""`coordeval check`: baselines, gates from everywhere, exports and every exit code."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from forked_commands import run_forked as run

FIXTURES = Path(__file__).parents[2] / "fixtures"
SOUND, BROKEN = FIXTURES / "runs" / "ckpt-300", FIXTURES / "runs" / "ckpt-2400"
BASELINE = FIXTURES / "baselines" / "ckpt-300.json"


def check(*arguments, **options):
    return run("check", *arguments, **options)


def test_the_way_from_a_baseline_to_a_verdict(tmp_path):
    """Write a baseline, pass on the same run, fail on a worse one; the table says which gates."""
    base = tmp_path / "base.json"
    done = check(SOUND, "--baseline", base, "--update-baseline")
    assert done.returncode == 0, done.stderr
    gates = ("--gate", "coco/AP:-0.5pt", "--gate", "parse/drop_rate:+10%,+0.1pt")
    done = check(SOUND, "--baseline", base, *gates)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 gates passed" in done.stdout
    done = check(BROKEN, "--baseline", base, *gates, "--gate", "samples/total>=1")
    assert done.returncode == 1
    marks = [
        line.split()[0] for line in done.stdout.splitlines() if " coco/" in line or " sam" in line
    ]
    assert marks == ["FAIL", "ok"]


def test_gates_from_files_and_configuration(tmp_path):
    """[gates] of coordeval.toml, then --gates, then --gate: each overrides by key."""
    (tmp_path / "coordeval.toml").write_text(
        '[gates]\n"coco/AP" = ">=0.99"\n"f1/0.50/f1" = ">=0.1"\n'
    )
    done = check(SOUND, cwd=tmp_path)
    assert done.returncode == 1
    (tmp_path / "g.toml").write_text('"coco/AP" = ">=0.2"\n')
    done = check(SOUND, "--gates", "g.toml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [gate["gate"] for gate in json.loads(done.stdout)["gates"]] == [
        "f1/0.50/f1>=0.1",
        "coco/AP>=0.2",
    ]
    done = check(SOUND, "--gates", "g.toml", "--gate", "coco/AP>=0.98", cwd=tmp_path)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--gate", "coco/APP:-1pt", "--baseline", BASELINE], 2, "did you mean 'coco/AP'"),
        (["--gate", "coco/AP:-1pt"], 2, "--baseline"),
        (["--gate", "coco/AP"], 2, "cannot be read"),
        (["--gate", "parse/drop_rate:+10%", "--baseline", BASELINE], 2, "absolute tolerance"),
        (["--gate", "coco/AP:-1pt", "--baseline", "none.json"], 2, "no such baseline"),
        (["--update-baseline"], 2, "--baseline"),
        ([], 3, ""),
        (["--gate", "coco_segm/AP:-1pt", "--baseline", BASELINE], 3, ""),
        (
            ["--gate", "coco/AP:-1pt", "--baseline", FIXTURES / "baselines" / "wrapped.json"],
            4,
            "other ground truth",
        ),
        (
            ["--gate", "coco/AP:-1pt", "--baseline", BASELINE, "--scores", "constant"],
            4,
            "another protocol",
        ),
    ],
)
def test_exit_codes_of_faults(arguments, code, message, tmp_path):
    """Configuration 2, nothing evaluated 3, not comparable 4; JUnit holds an error and no pass."""
    junit = tmp_path / "j.xml"
    done = check(SOUND, *arguments, "--junit", junit, "--json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert document["exit_code"] == code
    suite = ET.parse(junit).find("testsuite")
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")


def test_exports_say_the_same(tmp_path):
    """Markdown file, step summary (appended) and JUnit of one failing check."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    env = os.environ | {"GITHUB_STEP_SUMMARY": str(summary)}
    gates = ("--gate", "samples/conforming_rate:-1pt", "--gate", "coco/AP>=0.1")
    outputs = ("--github", "--markdown", tmp_path / "m.md", "--junit", tmp_path / "j.xml")
    done = check(BROKEN, "--baseline", BASELINE, *gates, *outputs, env=env)
    assert done.returncode == 1
    markdown = (tmp_path / "m.md").read_text()
    assert summary.read_text() == "before\n" + markdown + "\n"
    assert "coordeval check: fail" in markdown
    assert ET.parse(tmp_path / "j.xml").find("testsuite").get("failures") == "1"


def test_github_without_a_summary_file_is_said():
    """Outside of GitHub the option is noted and the verdict is still given."""
    env = {key: value for key, value in os.environ.items() if key != "GITHUB_STEP_SUMMARY"}
    done = check(SOUND, "--gate", "coco/AP>=0.1", "--github", env=env)
    assert done.returncode == 0
    assert "GITHUB_STEP_SUMMARY" in done.stderr


def test_intervals_forgive_what_cannot_be_told_apart():
    """A difference within the noise of 64 images fails exactly and passes with intervals."""
    arguments = (BROKEN, "--baseline", BASELINE, "--gate", "count/pred:+-1", "--json")
    assert check(*arguments).returncode == 1
    done = check(*arguments, "--intervals")
    assert done.returncode == 0
    (gate,) = json.loads(done.stdout)["gates"]
    low, high = gate["interval"]
    assert low < gate["change"] < high
    sure = check(BROKEN, "--baseline", BASELINE, "--gate", "parse/drop_rate:+5pt", "--intervals")
    assert sure.returncode == 1


def test_an_unfinished_run_is_not_judged(tmp_path):
    """A rollout that was interrupted ends with 3, whatever its numbers."""
    folder = tmp_path / "half"
    folder.mkdir()
    meta = json.loads((SOUND / "run.json").read_text()) | {"status": "interrupted"}
    (folder / "run.json").write_text(json.dumps(meta))
    (folder / "rollouts.jsonl").write_text((SOUND / "rollouts.jsonl").read_text())
    done = check(folder, "--gate", "coco/AP>=0")
    assert done.returncode == 3
    assert "not finished" in done.stderr
