"""Numbers as people read them: no sign on what is shown as 0, in every table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.reports.attribution import _points
from coordeval.reports.comparison_values import slice_value
from coordeval.reports.formats import number, percent, points, signed
from coordeval.reports.gate_table import change_text
from coordeval.reports.html.values import shown_change, shown_value
from coordeval.training.probe.report import _number

SMALL = st.floats(-2e-2, 2e-2)


@given(value=SMALL, digits=st.integers(0, 3))
def test_what_is_shown_as_zero_has_no_sign(value, digits):
    """-0.00 would be read as a loss, and +0.00 as a gain: no formatter writes either."""
    texts = [number(value, digits), signed(value, digits), percent(value), points(value)]
    texts += [slice_value(value), slice_value(value, sign=True), shown_value("f1/0.50/f1", value)]
    texts += [_number(value, "bins"), _points(value)]
    for text in texts:
        if not any(digit in text for digit in "123456789"):
            assert not text.startswith(("+", "-", "−")), text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-0.004, 2, "0.00"),
        (0.0, 2, "0.00"),
        (-0.0, 3, "0.000"),
        (-0.005001, 2, "-0.01"),
        (0.25, 2, "+0.25"),
        (-1234.5, 1, "-1,234.5"),
    ],
)
def test_a_difference_has_its_sign_unless_it_is_shown_as_zero(value, digits, text):
    """The sign belongs to what is written, not to what was lost in rounding."""
    assert signed(value, digits) == text


def test_a_change_that_rounds_to_zero_is_neither_gain_nor_loss():
    """In the page and in the table of gates."""
    assert shown_change("parse/drop_rate", -1e-6) == "±0.0 pp"
    assert shown_change("parse/drop_rate", -0.01) == "−1.0 pp"
    assert shown_change("parse/drop_rate", 0.01) == "+1.0 pp"
    outcome = SimpleNamespace(key="f1/0.50/f1", change=-1e-9)
    assert change_text(outcome) == "0.00 pt"
