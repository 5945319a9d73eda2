"""Texts from outside in error lines: one line, bounded, printable."""

import pytest

from coordeval.quoting import shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cat", "'cat'"),
        ("第九", "'第九'"),
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 11, "'xxxxxxx...'"),
    ],
)
def test_a_text_is_quoted_on_one_short_line(text, wanted):
    """Letters stay, control characters and lone surrogates become escapes, the rest is cut."""
    assert shown(text, 10) == wanted
    assert shown(text, 10).encode("utf-8")
