"""Exact and near repeats against a double loop, and the keys that report them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordeval.metrics import near as near_module


def iou(a, b):
    """IoU of two boxes with sides."""
    w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return w * h / (area - w * h)


def double_loop(records):
    """(exact, near) by comparing each record with all earlier ones."""
    exact = near = 0
    for place, (name, values) in enumerate(records):
        earlier = [v for n, v in records[:place] if n == name]
        if values in earlier:
            exact += 1
        elif any(iou(values, other) >= 0.90 for other in earlier):
            near += 1
    return exact, near


boxes = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(25, 29),
    st.integers(25, 29),
).map(lambda v: (v[0], (v[1], v[2], v[1] + v[3], v[2] + v[4])))


@pytest.mark.parametrize("small_group", [512, 1], ids=["sweep", "cells"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(records=st.lists(boxes, max_size=14))
def test_exact_and_near_equal_a_double_loop(score, line, rec, text, small_group, records):
    """Both ways of finding close pairs give the counts of the definition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_module, "SMALL_GROUP", small_group)
        result = score([line(text(*(rec(*one) for one in records)), [])])
    exact, near = double_loop(records)
    assert result.metrics["dup/exact_objects"] == exact
    assert result.metrics["dup/near_objects"] == near
    if records:
        assert result.metrics["dup/exact_rate"] == exact / len(records)
    else:
        assert result.metrics["dup/near_rate"] is None


def test_dropped_records_that_can_be_read_take_part(score, line, rec, text):
    """Two inverted boxes are a repeat although both are dropped."""
    bad = rec("cat", (50, 50, 10, 10))
    result = score([line(text(bad, bad), [])])
    assert result.metrics["parse/dropped/degenerate_box"] == 2
    assert (result.metrics["dup/exact_objects"], result.metrics["dup/max_repeat"]) == (1, 2)


def test_repeats_do_not_cross_images_or_names(score, line, rec, text):
    """The same box in another image, or under another name, is no repeat."""
    lines = [
        line(text(rec("a", (0, 0, 9, 9)), rec("b", (0, 0, 9, 9))), [], id="1"),
        line(text(rec("a", (0, 0, 9, 9))), [], id="2"),
    ]
    result = score(lines)
    assert result.metrics["dup/exact_objects"] == result.metrics["dup/near_objects"] == 0
    assert result.metrics["dup/max_repeat"] == 1


def test_near_polygons_go_by_their_masks(score, line, rec, text):
    """A triangle a pixel larger is a near repeat, the other half of its hull is not."""
    result = score(
        [
            line(
                text(
                    rec("a", (0, 0, 400, 0, 0, 400), "poly"),
                    rec("a", (0, 0, 401, 0, 0, 401), "poly"),
                    rec("a", (401, 401, 401, 0, 0, 401), "poly"),
                ),
                [],
            )
        ]
    )
    assert result.metrics["dup/near_objects"] == 1


@pytest.mark.parametrize(("spread", "side"), [(60, 90), (250, 30), (6, 200)])
def test_crowded_groups_are_exact_too(spread, side):
    """Thousands of distinct boxes: the cells find what comparing all with all finds."""
    rng = np.random.default_rng(1)
    low = rng.integers(0, spread, (2000, 2))
    boxes_xyxy = np.hstack([low, low + side // 2 + rng.integers(1, side, (2000, 2))])
    boxes_xyxy = rng.permutation(np.unique(boxes_xyxy, axis=0)).astype(np.float64)
    group = rng.integers(0, 2, len(boxes_xyxy))
    x1, y1, x2, y2 = boxes_xyxy.T
    w = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    h = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    inter = np.clip(w, 0, None) * np.clip(h, 0, None)
    area = (x2 - x1) * (y2 - y1)
    close = (inter / (area[:, None] + area - inter) >= 0.90) & (group[:, None] == group)
    want = np.tril(close, k=-1).any(axis=1)
    assert near_module.near_earlier(boxes_xyxy, group).tolist() == want.tolist()
    assert want.any()


def test_absurd_numbers_are_no_geometry(score, line, text):
    """Integers beyond every image are compared exactly and never overflow."""
    from coordeval.parsers.dialects import DIALECTS

    huge = '{"desc": "a", "bbox_2d": [0, 0, 9, ' + "9" * 400 + "]}"
    metrics = score([line(text(huge, huge), [])], dialect=DIALECTS["coordjson-bins"]).metrics
    assert metrics["parse/objects_valid"] == 0
    assert metrics["dup/exact_objects"] + metrics["dup/near_objects"] <= 1
