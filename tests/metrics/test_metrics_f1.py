"""F1 rules, on whole runs, against hand-computed examples and an independent scorer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordeval.metrics.protocols import COCO_THRESHOLDS


def counts(result, key="f1/0.50"):
    """(tp, fp, fn) under a key."""
    return tuple(result.metrics[f"{key}/{name}"] for name in ("tp", "fp", "fn"))


def box(desc, *values, **more):
    """One ground-truth box in pixels."""
    return {"desc": desc, "bbox_2d": list(values)} | more


def test_right_wrong_and_missed(score, line, rec, text):
    """One of each gives precision, recall and F1 of one half."""
    result = score(
        [
            line(
                text(rec("cat", (0, 0, 100, 100)), rec("cat", (500, 500, 600, 600))),
                [box("cat", 0, 0, 100, 100), box("cat", 800, 800, 900, 900)],
            )
        ]
    )
    assert counts(result) == (1, 1, 1)
    assert [result.metrics[f"f1/0.50/{q}"] for q in ("precision", "recall", "f1")] == [0.5] * 3


def test_iou_equal_to_the_threshold_counts(score, line, rec, text):
    """IoU of exactly one half is right at .50 and wrong at .55."""
    result = score([line(text(rec("a", (0, 0, 100, 50))), [box("a", 0, 0, 100, 100)])])
    assert counts(result, "f1/0.50") == (1, 0, 0)
    assert counts(result, "f1/0.55") == (0, 1, 1)
    assert result.metrics["f1/mean/f1"] == pytest.approx(0.1)


def test_images_without_ground_truth_count_their_wrong_predictions(score, line, rec, text):
    """An empty image in front neither shifts the others nor loses its own wrong prediction."""
    result = score(
        [
            line(text(rec("cat", (0, 0, 50, 50))), [], id="empty"),
            line(text(rec("cat", (0, 0, 100, 100))), [box("cat", 0, 0, 100, 100)], id="b"),
            line(text(), [box("cat", 5, 5, 10, 10)], id="c"),
        ]
    )
    assert counts(result) == (1, 1, 1)


def test_engine_errors_count_their_objects_as_missed(score, line, rec, text):
    """A failed image loses its text and keeps its ground truth."""
    result = score(
        [
            line(text(rec("a", (0, 0, 9, 9))), [box("a", 0, 0, 9, 9)], id="x", error="boom"),
            line(text(rec("a", (0, 0, 9, 9))), [box("a", 0, 0, 9, 9)], id="y"),
        ]
    )
    assert counts(result) == (1, 0, 1)
    assert result.metrics["samples/errors"] == 1
    assert result.metrics["parse/objects_found"] == 1


def test_unknown_class_is_wrong_but_may_be_in_the_right_place(score, line, rec, text):
    """A name outside the universe is wrong class-aware and right class-agnostic."""
    result = score([line(text(rec("ufo", (0, 0, 100, 100))), [box("cat", 0, 0, 100, 100)])])
    assert counts(result) == (0, 1, 1)
    assert counts(result, "f1_loc/0.50") == (1, 0, 0)
    assert result.metrics["count/unknown_class"] == 1


def test_names_are_compared_normalised(score, line, rec, text):
    """Width, case and spacing do not tell names apart."""
    result = score(
        [
            line(
                text(rec("  Traffic\u00a0  LIGHT ", (0, 0, 99, 99))),
                [box("traffic light", 0, 0, 99, 99)],
            )
        ]
    )
    assert counts(result) == (1, 0, 0)


def test_repeats_beyond_the_first_are_wrong_and_deduplicated_numbers_say_so(score, line, rec, text):
    """Three copies: one right, two wrong; none wrong after removing exact repeats."""
    one = rec("cat", (0, 0, 100, 100))
    result = score([line(text(one, one, one), [box("cat", 0, 0, 100, 100)])])
    assert counts(result) == (1, 2, 0)
    assert counts(result, "f1_dedup/0.50") == (1, 0, 0)
    verdicts = result.objects.query("role == 'pred'")["verdict"].tolist()
    assert verdicts == ["right", "wrong", "wrong"]


def test_crowd_regions_excuse_what_lies_on_them(score, line, rec, text):
    """On a crowd of its class: neither right nor wrong. Of another class, or half off: wrong."""
    crowd = box("person", 0, 0, 500, 500, iscrowd=1)
    gt = [crowd, box("person", 600, 600, 700, 700), box("dog", 800, 800, 900, 900)]
    result = score(
        [
            line(
                text(
                    rec("person", (10, 10, 60, 60)),
                    rec("person", (480, 480, 520, 520)),
                    rec("dog", (10, 10, 60, 60)),
                    rec("person", (600, 600, 700, 700)),
                ),
                gt,
            )
        ]
    )
    assert counts(result) == (1, 2, 1)
    assert counts(result, "f1_loc/0.50") == (1, 1, 1)


def test_zero_denominators_are_null(score, line, text):
    """Nothing predicted and nothing there has no precision, recall or F1."""
    result = score([line(text(), [])])
    assert [result.metrics[f"f1/0.50/{q}"] for q in ("precision", "recall", "f1")] == [None] * 3
    result = score([line(text(), [box("a", 0, 0, 9, 9)])])
    assert result.metrics["f1/0.50/precision"] is None
    assert (result.metrics["f1/0.50/recall"], result.metrics["f1/0.50/f1"]) == (0.0, 0.0)


def test_polygons_and_lines(score, line, rec, text):
    """A polygon meets a polygon by mask and a box by its hull; lines are counted, not scored."""
    triangle = (0, 0, 100, 0, 0, 100)
    result = score(
        [
            line(
                text(
                    rec("a", triangle, "poly"),
                    rec("b", (0, 0, 100, 100)),
                    rec("c", (0, 0, 5, 5), "line"),
                ),
                [
                    {"desc": "a", "poly": [100, 0, 100, 100, 0, 100]},
                    {"desc": "b", "poly": list(triangle)},
                    {"desc": "c", "line": [0, 0, 5, 5]},
                ],
            )
        ]
    )
    assert counts(result) == (1, 1, 1)
    assert result.metrics["count/unscored"] == result.metrics["count/gt_unscored"] == 1
    assert result.metrics["coco/AP"] == pytest.approx(1.0)
    assert result.metrics["coco_segm/AP75"] == 0.0


def test_ground_truth_without_area_is_excluded_and_counted(score, line, text):
    """A flat box can't be found and isn't asked for."""
    result = score([line(text(), [box("a", 5, 5, 5, 9), box("a", 0, 0, 9, 9)])])
    assert counts(result) == (0, 0, 1)
    assert result.metrics["count/gt_zero_area"] == 1


def test_only_sample_zero_is_the_headline(score, line, rec, text):
    """Further samples of an id are counted, not scored."""
    one = text(rec("a", (0, 0, 9, 9)))
    result = score([line(one, [box("a", 0, 0, 9, 9)]), line(one, [], sample_index=1)])
    assert counts(result) == (1, 0, 0)
    assert result.metrics["count/other_samples"] == 1


small_boxes = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(2, 6),
    st.integers(2, 6),
).map(lambda v: (v[0], (v[1], v[2], v[1] + v[3], v[2] + v[4])))
small_images = st.lists(
    st.tuples(st.lists(small_boxes, max_size=4), st.lists(small_boxes, max_size=4)),
    min_size=1,
    max_size=3,
)


def iou(a, b):
    """IoU of two integer boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def most_pairs(pred, gt, threshold):
    """The largest number of pairs, by augmenting paths."""
    owner = {}

    def place(p, seen):
        for g, gt_box in enumerate(gt):
            if g not in seen and iou(pred[p], gt_box) >= threshold:
                seen.add(g)
                if g not in owner or place(owner[g], seen):
                    owner[g] = p
                    return True
        return False

    return sum(place(p, set()) for p in range(len(pred)))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(small_images)
def test_counts_equal_an_independent_scorer(score, line, rec, text, images):
    """TP at every threshold is the sum over images and classes of the most pairs."""
    lines = [
        line(
            text(*(rec(desc, values) for desc, values in pred)),
            [box(desc, *values) for desc, values in gt],
            id=str(number),
        )
        for number, (pred, gt) in enumerate(images)
    ]
    result = score(lines, meta={"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]})
    num_pred = sum(len(pred) for pred, _ in images)
    num_gt = sum(len(gt) for _, gt in images)
    for threshold in COCO_THRESHOLDS:
        aware = sum(
            most_pairs(
                [values for desc, values in pred if desc == name],
                [values for desc, values in gt if desc == name],
                threshold,
            )
            for pred, gt in images
            for name in "ab"
        )
        anywhere = sum(
            most_pairs([v for _, v in pred], [v for _, v in gt], threshold) for pred, gt in images
        )
        assert counts(result, f"f1/{threshold:.2f}") == (aware, num_pred - aware, num_gt - aware)
        assert counts(result, f"f1_loc/{threshold:.2f}") == (
            anywhere,
            num_pred - anywhere,
            num_gt - anywhere,
        )
    table = result.per_image
    assert table["tp@0.50"].sum() == result.metrics["f1/0.50/tp"]
    assert result.per_class["fp@0.75"].sum() == result.metrics["f1/0.75/fp"]
