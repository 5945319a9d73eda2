"""The CI page: its gates can be read, and its workflow is a workflow."""

import re
from pathlib import Path

import pytest
import yaml

from coordeval.metrics.catalogue import describe
from coordeval.stats.gates import Change, bad_direction, parse_gate

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `([^`]+)` \| ", PAGE, flags=re.MULTILINE)
QUOTED = re.findall(r'--gate "([^"]+)"', PAGE)


@pytest.mark.parametrize("text", sorted({*TABLE, *QUOTED}))
def test_every_gate_of_the_page_is_read(text):
    """Examples are valid: known keys, and signs that bound the bad direction."""
    gate = parse_gate(text)
    if "*" not in gate.key:
        assert describe(gate.key) is not None
        if isinstance(gate.condition, Change):
            bad_direction(gate.key, gate.condition, text)


def test_the_workflow_is_yaml_with_both_jobs():
    """The ready file parses; its jobs call check with the step summary and JUnit."""
    block = re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    jobs = yaml.safe_load(block)["jobs"]
    for job in jobs.values():
        commands = " ".join(step.get("run", "") for step in job["steps"])
        assert "coordeval check" in commands
        assert "--github --junit" in commands
