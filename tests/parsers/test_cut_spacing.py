"""A text that is cut behind a comma is truncated; its spacing is as canonical as it goes."""

import pytest

from coordeval.parsers import parse

RECORD = '{"desc": "a", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>]}'


@pytest.mark.parametrize("rest", ["", ",", ", "])
def test_a_cut_between_records_is_no_other_spacing(rest):
    assert parse('{"objects": [' + RECORD + rest).issues == {"truncated": 1}
