"""The one command behind the table of docs/decoding.md."""

import re
from pathlib import Path

import pytest
from forked_scripts import run_script

from coordeval.runs import open_run

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _table(out, *arguments):
    words = ["--out", out, "--engine", "hf", "--device", "cpu", *arguments]
    done = run_script(ROOT / "recipes" / "decoding_control.py", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line[:1] == "|"]
    return rows[0], rows[2:], done.stdout


def test_one_command_prints_the_table_and_keeps_the_runs(tmp_path):
    """Every set under every control on a few images: a row each, its run kept, the same again."""
    header, rows, text = _table(tmp_path, "--limit", "3")
    sets = ("noise", "temperature", "ckpt-2400", "ckpt-loops", "ckpt-polygons")
    modes = ("free", "coords", "grammar", "grammar + guard")
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (name, "hf", mode) for name in sets for mode in modes
    ]
    assert {"drops", "conforming", "loops", "tokens", "saved", "F1@.50", "AP"} <= set(header)
    for row in rows:
        run = open_run(tmp_path / row[0] / f"hf-{row[2].replace(' + ', '-')}")
        lines = list(run.rollouts())
        assert len(lines) == 3
        assert int(row[header.index("tokens")].replace(",", "")) == sum(
            len(line.token_ids) for line in lines
        )
    # The runs are the cache: nothing is decoded again, and the text is the same.
    assert _table(tmp_path, "--limit", "3")[2] == text


def test_no_record_is_dropped_under_a_grammar(tmp_path):
    """Sampled at temperature 1.3, free text drops records; under the grammar at most a cut one."""
    header, rows, text = _table(
        tmp_path, "--only", "temperature", "--modes", "free", "grammar", "--limit", "32"
    )
    drops = {row[2]: int(row[header.index("drops")]) for row in rows}
    assert drops["free"] > 0
    for line in re.findall(r"^- temperature, hf, grammar.*", text, flags=re.MULTILINE):
        assert re.fullmatch(r".*: truncated_record \d+", line)
