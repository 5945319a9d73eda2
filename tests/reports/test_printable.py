"""Text from outside is shown, never obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.reports.formats import bar, number, percent, points
from coordeval.reports.printable import printable


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_no_control_format_or_surrogate_character_survives(text):
    """Whatever the text, what is printed has no control, direction or surrogate characters."""
    shown = printable(text)
    risky = {"Cc", "Cs"}
    assert not [c for c in shown if unicodedata.category(c) in risky]
    assert not set(shown) & set(
        "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat 猫 🦉 é", "cat 猫 🦉 é"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_signs_stand_for_what_was_there(text, shown):
    """Ordinary text of any script stays; the rest is written as escapes."""
    assert printable(text) == shown


def test_a_limit_cuts_and_says_so():
    """Long text ends in an ellipsis."""
    assert printable("abcdef", limit=3) == "abc…"
    assert printable("abc", limit=3) == "abc"


def test_numbers_are_shown_with_their_unit_and_nothing_as_a_dash():
    """No value is a dash, never a zero."""
    assert (number(None), percent(None), points(None)) == ("-", "-", "-")
    assert (number(1234), number(0.5), percent(0.125), points(0.4567)) == (
        "1,234",
        "0.500",
        "12.5 %",
        "45.7",
    )


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_bars_never_overflow_and_small_values_still_show(value, largest):
    """A bar is at most its width; a positive value is never invisible beside a positive largest."""
    drawn = bar(min(value, largest), largest, cells=10)
    assert len(drawn) <= 10
    if min(value, largest) > 0:
        assert drawn
