"""Repeats among written objects, and which copy stays."""

from hypothesis import given
from hypothesis import strategies as st

from coordeval.training.stage2.config import MatchingConfig
from coordeval.training.stage2.duplicates import repeat_groups, suppressed_repeats
from coordeval.training.stage2.matching import UNMATCHED, match_objects
from coordeval.training.stage2.overlap import BinObject


def box(desc, *bins):
    return BinObject(desc, "bbox_2d", bins)


def suppressed(written, true=(), *, duplicate_iou=0.9, crowd=(), **config):
    matching = match_objects(written, list(true), MatchingConfig(**config), crowd=crowd)
    return suppressed_repeats(written, matching, duplicate_iou=duplicate_iou, mask_size=256)


A = box("cat", 0, 0, 100, 100)
NEAR = box("Cat ", 0, 0, 100, 95)
FAR = box("cat", 500, 500, 600, 600)


def iou(one, other):
    (a, b, c, d), (e, f, g, h) = one.bins, other.bins
    inter = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return inter / ((c - a) * (d - b) + (g - e) * (h - f) - inter)


@given(
    st.lists(
        st.builds(
            lambda desc, x, w: box(desc, x, 0, x + 100 + w, 50),
            st.sampled_from(["a", "A", "b"]),
            st.integers(0, 40),
            st.integers(0, 10),
        ),
        max_size=8,
    ),
    st.sampled_from([0.7, 0.9, 1.0]),
)
def test_groups_are_the_connected_components_of_near_pairs(written, least):
    """Equal to spreading from object to object over pairs of one name and enough IoU."""
    reach = [
        {
            j
            for j, other in enumerate(written)
            if other.desc.lower() == one.desc.lower() and iou(one, other) >= least
        }
        for one in written
    ]
    for _ in written:
        reach = [set().union(near, *(reach[j] for j in near)) for near in reach]
    reference = sorted({tuple(sorted(near)) for near in reach if len(near) > 1})
    found = repeat_groups(written, duplicate_iou=least, mask_size=256)
    assert [tuple(group) for group in found] == reference


def test_the_first_copy_stays_where_none_is_matched():
    """Invented objects: one of them stays a false positive, the others are repeats."""
    assert suppressed([A, NEAR, A, FAR]) == (False, True, True, False)


def test_the_matched_copy_stays_wherever_it_stands():
    """The second of two near copies fits better, and is the one that stays."""
    true = [box("cat", 0, 0, 100, 94)]
    assert suppressed([A, NEAR], true) == (True, False)
    assert suppressed([NEAR, A], true) == (False, True)


def test_two_true_objects_that_nearly_coincide_keep_both_finds():
    """Matched objects are never repeats."""
    assert suppressed([A, NEAR], [A, NEAR]) == (False, False)
    assert suppressed([A, A, A], [A, A]) == (False, False, True)


def test_a_second_find_of_a_taken_object_is_a_repeat():
    """Too far from its twin for a near repeat, but nothing else is there for it to find."""
    second = box("cat", 0, 0, 100, 70)
    assert iou(A, second) == 0.7
    assert suppressed([A, second], [A]) == (False, True)
    assert suppressed([A, second], [A], gate=0.8) == (False, False)
    assert suppressed([A, second._replace(desc="dog")], [A]) == (False, False)
    assert suppressed([A, second], [A, box("cat", 0, 0, 100, 60)]) == (False, False)


def test_other_names_and_kinds_are_no_repeats():
    """The same place under another name, and an outline of a box."""
    outline = BinObject("cat", "poly", (0, 0, 100, 0, 100, 100, 0, 100))
    assert suppressed([A, A._replace(desc="dog"), outline]) == (False, False, False)
    assert suppressed([outline, outline]) == (False, True)


def test_copies_on_a_crowd_are_repeats_of_one_another_but_not_of_a_find():
    """One prediction on a crowd region is ignored; the same one again is a repeat."""
    crowd = [box("cat", 0, 0, 400, 400)]
    assert suppressed([A, A], crowd=crowd) == (False, True)
    second = box("cat", 0, 0, 100, 70)
    assert suppressed([A, second], [A], crowd=crowd) == (False, False)


def test_nothing_written_has_no_repeats():
    """No objects: no groups, nothing suppressed."""
    assert repeat_groups([], duplicate_iou=0.9, mask_size=256) == []
    assert suppressed([], [A]) == ()
    assert match_objects([], [A], MatchingConfig()).partner.count(UNMATCHED) == 0
