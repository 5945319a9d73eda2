"""Tables of raw values: shown alike in a terminal and on a page, and again from their JSON."""

import json

import pytest
from rounds import Ratio
from tables import Table, as_markdown, as_text, show, table_from_json

TABLE = Table(
    title="A | title",
    columns=(("what", ""), ("ms", ".1f"), ("ratio", ".2f")),
    rows=(("a|b", 1.26, Ratio(1.0, 0.987, 1.021)), ("missing", None, None)),
    notes=("A note.",),
)


@pytest.mark.parametrize(
    ("cell", "spec", "text"),
    [
        (None, ".2f", "-"),
        ("not installed", ".2f", "not installed"),
        (1234.5, ",.0f", "1,234"),
        (3, ".1f", "3.0"),
        ([1.0, 0.5, 2.0], ".1f", "1.0 [0.5, 2.0]"),
        (Ratio(-1.0, -2.0, 0.5), "+.1f", "-1.0 [-2.0, +0.5]"),
    ],
)
def test_cells(cell, spec, text):
    """A number as its column says, an interval behind its middle, nothing as a dash."""
    assert show(cell, spec) == text


def test_a_table_survives_its_json():
    """What is stored shows the same table again."""
    again = table_from_json(json.loads(json.dumps(TABLE.to_json())))
    assert as_text(again) == as_text(TABLE)
    assert as_markdown(again) == as_markdown(TABLE)


def test_markdown_keeps_its_columns():
    """A bar inside a cell makes no column; numbers stand at the right."""
    lines = as_markdown(TABLE).splitlines()
    assert lines[2] == "| what | ms | ratio |"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[4] == "| a\\|b | 1.3 | 1.00 [0.99, 1.02] |"
    assert lines[5] == "| missing | - | - |"
    assert lines[-1] == "A note."


def test_text_is_aligned():
    """All lines of a terminal table are equally wide up to their last column."""
    _, *lines, note = as_text(TABLE).splitlines()
    assert note.strip() == "A note."
    assert lines[1].index("1.3") + 3 == lines[0].index("ms") + 2


def test_a_row_of_another_length_is_a_mistake():
    """A table cannot hold a row that its headings do not describe."""
    with pytest.raises(AssertionError):
        Table(title="", columns=(("a", ""),), rows=(("x", 1),))
