"""Options of control that would be without effect are refused, and name what they need."""

import pytest

from coordeval.engines.options import control_settings
from coordeval.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ordered": True}, "--ordered has no effect without --constrain"),
        ({"geometry": "poly"}, "--geometry has no effect without --constrain"),
        ({"constrain": "none", "max_points": 5}, "--max-points has no effect"),
        ({"guard_exact": 3}, "--guard-exact has no effect without --loop-guard"),
        ({"loop_guard": "off", "guard_near_iou": 0.9}, "--guard-near-iou has no effect"),
    ],
)
def test_control_without_its_mode_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        control_settings(values)


def test_control_with_its_mode_is_taken():
    found = control_settings({"constrain": "coords", "ordered": True, "max_points": 5})
    assert found["constraint"].orders
    assert control_settings({"loop_guard": "mark", "guard_exact": 3})["guard"].exact_repeats == 3


def test_switches_that_were_not_given_ask_for_nothing():
    """The command line hands on False for a switch that nobody typed."""
    found = control_settings({"sorted_objects": False, "ordered": None, "max_objects": None})
    assert found["constraint"].mode == "none"
    with pytest.raises(ConfigError, match="sorted-objects"):
        control_settings({"sorted_objects": True})
