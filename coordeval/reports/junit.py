"""The outcome of a check as JUnit XML: one test case per gate, as CI systems read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from coordeval.reports.gate_table import cells
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from coordeval.stats.gates_check import CheckResult, Outcome

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_junit(result: CheckResult) -> bytes:
    """A test suite: `<failure>` for a gate that does not hold, `<error>` for a fault.

    A gate that could not be judged is `<skipped>`; where none could, the suite holds an error.
    """
    suite = ET.Element("testsuite", name="coordeval check")
    for outcome in result.outcomes:
        _add_case(suite, result, outcome)
    if result.verdict in ("fault", "nothing evaluated"):
        case = ET.SubElement(
            suite, "testcase", classname=_clean(result.run), name="the run can be checked"
        )
        message = str(result.fault) if result.fault is not None else "nothing was evaluated"
        kind = type(result.fault).__name__ if result.fault is not None else "NothingEvaluated"
        error = ET.SubElement(case, "error", message=_clean(message), type=kind)
        error.text = _clean("; ".join((message, *result.notes)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite)))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _add_case(suite: ET.Element, result: CheckResult, outcome: Outcome) -> None:
    name, baseline, now, change, allowed, why = cells(outcome)
    case = ET.SubElement(suite, "testcase", classname=_clean(result.run), name=_clean(name))
    facts = f"{outcome.key}: baseline {baseline}, now {now}, change {change}, allowed {allowed}"
    if outcome.status == "fail":
        message = _clean(f"{outcome.key} {why}")
        ET.SubElement(case, "failure", message=message, type="regression").text = _clean(facts)
    elif outcome.status == "skipped":
        ET.SubElement(case, "skipped", message=_clean(why))


def _clean(text: str) -> str:
    """Printable, and free of what XML 1.0 cannot hold even escaped."""
    return _NOT_IN_XML.sub("\ufffd", printable(text))


__all__ = ["check_junit"]
