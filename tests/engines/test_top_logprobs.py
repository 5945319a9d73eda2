"""Telemetry from the few most probable tokens: always an interval that holds the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.decoding.slots import SlotPlace
from coordeval.engines.top_logprobs import read_slot

PLACE = SlotPlace(3, 1, 2, "bbox_2d", 5, None)


class SmallTable:
    """A vocabulary of 12 tokens of which 4..7 are the coordinates 0..3."""

    @staticmethod
    def bin_of(token_id):
        return token_id - 4 if 4 <= token_id < 8 else None


def top_of(probabilities, count):
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])[:count]
    return {i: math.log(probabilities[i]) for i in order if probabilities[i] > 0}


@given(
    st.lists(st.floats(1e-9, 1.0), min_size=12, max_size=12),
    st.integers(0, 12),
)
def test_the_interval_holds_the_exact_mass(weights, count):
    """Whatever the distribution and however few tokens are seen; all seen leaves no doubt."""
    probabilities = [weight / math.fsum(weights) for weight in weights]
    reading = read_slot(PLACE, top_of(probabilities, count), SmallTable(), str)
    exact = math.fsum(probabilities[4:8])
    assert reading.coord_mass <= exact + 1e-9
    assert exact <= reading.coord_mass + reading.mass_bound + 1e-9
    if count == 12:
        assert reading.mass_bound == pytest.approx(0.0, abs=1e-9)
        assert reading.top_prob == pytest.approx(max(probabilities[4:8]))
        assert reading.other_prob == pytest.approx(max(probabilities[:4] + probabilities[8:]))
    assert reading[:6] == PLACE
    assert reading.entropy is None


def test_what_is_not_seen_is_not_known():
    """Without a coordinate among the top there is no top bin, and the other way round."""
    none = read_slot(PLACE, {0: math.log(0.6), 9: math.log(0.3)}, SmallTable(), str)
    assert (none.top_bin, none.top_prob, none.coord_mass) == (None, None, 0.0)
    assert (none.other_id, none.other_text) == (0, "0")
    assert none.mass_bound == pytest.approx(0.1)
    only = read_slot(PLACE, {6: math.log(0.9)}, SmallTable(), str)
    assert (only.other_id, only.other_text, only.other_prob) == (None, None, None)
    assert only.top_bin == 2 and only.coord_mass == pytest.approx(0.9)
