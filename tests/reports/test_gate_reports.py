"""A check as table, Markdown and JUnit XML: same verdict everywhere, and hostile text stays text."""

import io
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from coordeval.errors import NotComparable
from coordeval.reports.gate_markdown import check_markdown
from coordeval.reports.gate_table import check_report, verdict_line
from coordeval.reports.junit import check_junit
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import CheckResult, check_gates

NASTY = 'runs/<img src=x onerror="alert(1)">|`*]]>\x1b[31m\u202e'


def result(run="runs/x", **options):
    gates = ("coco/AP:-1pt", "parse/drop_rate:+0pt", "dup/max_repeat:+1", "coco_segm/AP:-1pt")
    outcomes = check_gates(
        [parse_gate(gate) for gate in gates],
        {"coco/AP": 0.4, "parse/drop_rate": 0.0, "dup/max_repeat": 9},
        {"coco/AP": 0.45, "parse/drop_rate": 0.0, "dup/max_repeat": 2},
    )
    return CheckResult(run=run, baseline="b.json", outcomes=outcomes, **options)


def printed(found):
    console = Console(file=io.StringIO(), width=110)
    console.print(check_report(found))
    return console.file.getvalue()


def test_the_table_lists_failing_gates_first():
    """FAIL rows, then ok rows, then skipped ones; the last line is the verdict."""
    lines = [line.split() for line in printed(result()).splitlines() if line.strip()]
    marks = [words[0] for words in lines if words[0] in ("FAIL", "ok", "skipped")]
    assert marks == ["FAIL", "FAIL", "ok", "skipped"]
    assert " ".join(lines[-1]) == "runs/x: 2 of 3 gates failed"


def test_junit_has_a_failure_per_failing_gate():
    """Regressions are failures, unjudged gates are skipped, and the counts agree."""
    suite = ET.fromstring(check_junit(result())).find("testsuite")
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == list("4201")
    failing = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failing == ["coco/AP:-1pt", "dup/max_repeat:+1"]
    assert "0.4500" in suite.find("testcase/failure").text


@pytest.mark.parametrize(
    "found",
    [
        CheckResult(run="r", baseline=None, fault=NotComparable("other ground truth")),
        CheckResult(run="r", baseline=None, notes=("no gates",)),
    ],
)
def test_junit_has_an_error_for_a_fault(found):
    """What kept the gates from being judged is an error, never a pass or a failure."""
    suite = ET.fromstring(check_junit(found)).find("testsuite")
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["1", "0", "1"]
    assert suite.find("testcase/error").text


def test_nothing_in_a_name_becomes_markup():
    """Paths with tags, pipes, back-ticks and escapes: valid XML, one table, no control codes."""
    found = result(run=NASTY, notes=(NASTY,))
    ET.fromstring(check_junit(found))
    markdown = check_markdown(found)
    assert "\\<img" in markdown
    assert "<img" not in markdown.replace("\\<img", "")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8}
    for text in (markdown, printed(found), verdict_line(found), check_junit(found).decode()):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_pattern_that_holds_is_one_row():
    """Hundreds of metrics that are as they were do not bury the one that is not."""
    now = {f"parse/detail/wrong_arity/{k}": float(k) for k in range(50)}
    base = now | {"parse/detail/wrong_arity/7": 8.0}
    outcomes = check_gates([parse_gate("*:+-0")], now, base)
    text = check_markdown(CheckResult(run="r", baseline="b", outcomes=outcomes))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 2
    assert "49 metrics" in rows[1]
