"""docs/faults.md tells what is tested, and everything that is tested here stands in it."""

from __future__ import annotations

import re
from pathlib import Path

from forked_commands import ROOT

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "faults.md"
# Checks of the tests' own means, and of rules that the page gives in words.
NOT_FAULTS = {
    "test_the_clock_of_these_tests_really_jumps",
    "test_root_is_really_bound_in_these_tests",
    "test_the_checksum_is_crc_32_of_what_the_line_says",
    "test_lines_may_be_worked_on",
    "test_odd_values_keep_their_checksum",
}


def names_here():
    here = [path for path in HERE.glob("test_*.py") if path.name != "test_faults_page.py"]
    return {
        name
        for path in here
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_every_row_names_a_test_and_every_test_has_a_row():
    """A row without its test is a claim, a test without a row is not found by who looks it up."""
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and not line.startswith(("| fault |", "|---"))
    ]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert all(len(names) == 1 for names in named)
    names = [name for [name] in named]
    assert len(set(names)) == len(names) > 40
    assert set(names) == names_here() - NOT_FAULTS


def test_the_page_counts_the_killed_runs():
    """95 runs on the replay engine and 5 with a model, as the page says."""
    from test_kills_hf import KILLED_RUNS as WITH_A_MODEL
    from test_kills_rollout import KILLED_RUNS

    assert (KILLED_RUNS, WITH_A_MODEL) == (95, 5)
    assert "95 runs" in PAGE.read_text(encoding="utf-8")
