"""The attribution page says what the code does."""

from pathlib import Path

from coordeval.metrics.attribution.error_types import ERROR_TYPES
from coordeval.metrics.attribution.repairs import repair_table_markdown

PAGE = (Path(__file__).parents[3] / "docs" / "attribution.md").read_text(encoding="utf-8")


def test_the_repair_table_stands_in_the_docs():
    """The table of the page is the table of the code."""
    assert repair_table_markdown() in PAGE


def test_every_error_type_is_described_in_order():
    """Short names and descriptions, in the order in which costs are added up."""
    names = [error for error in ERROR_TYPES if not error.short_name.startswith("Drop/")]
    rows = [f"| {error.short_name} | {error.description} |" for error in names]
    places = [PAGE.index(row) for row in rows]
    assert places == sorted(places)
