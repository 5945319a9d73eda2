"""docs/security.md: every test that it names exists, and every hostile test is named."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
OF_TOOLS = {"test_fuzzer.py", "test_security_page.py"}


def names_in(path):
    """Names of the test functions of a file, those in classes included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_every_named_test_exists():
    """No promise of the page rests on a test that was renamed or taken away."""
    assert len(NAMED) > 60
    for file, name in NAMED:
        assert name in names_in(ROOT / file), f"{file}::{name}"


def test_every_row_names_a_test():
    """A promise without a test is none."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    for row in rows:
        if row != "| promise | test |":
            assert re.search(r"`tests/[\w/]+\.py::\w+`", row), row


def test_hostile_tests_stand_on_the_page():
    """What is tested in this folder about foreign input is told to those who ask."""
    named = {name for _, name in NAMED}
    plain = re.compile(r"_(?:honest|work|long_dotted|not_utf8|dates|broken_index)")
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name not in OF_TOOLS:
            missing = {name for name in names_in(path) - named if not plain.search(name)}
            assert not missing, (path.name, missing)
