"""The bins that a list allows next, against every completion on a small grid."""

from itertools import product

import pytest

from coordeval.decoding import coordinate_rules
from coordeval.decoding.coordinate_rules import CoordinateRules, Key
from coordeval.decoding.settings import ConstraintSettings
from coordeval.parsers.record import doubled_area

LAST = 2
GRID = range(LAST + 1)


@pytest.fixture
def _small_grid(monkeypatch):
    monkeypatch.setattr(coordinate_rules, "MAX_BIN", LAST)


def rules_of(kinds, *, ordered, max_points, sorted_objects):
    settings = ConstraintSettings(
        mode="grammar",
        geometries=kinds,
        ordered=ordered,
        max_points=max_points,
        sorted_objects=sorted_objects,
    )
    return CoordinateRules(settings, numbered=False)


def hull_key(kind, values):
    return (values[1], values[0]) if kind == "bbox_2d" else (min(values[1::2]), min(values[0::2]))


def is_valid(kind, values, key, *, ordered):
    """What the reader and the sorted order ask of a complete list."""
    if key is not None and hull_key(kind, values) < key:
        return False
    if not ordered or kind == "line":
        return True
    if kind == "bbox_2d":
        return values[2] > values[0] and values[3] > values[1]
    return doubled_area(values) != 0


def complete_lists(kind, most_points):
    lengths = {"bbox_2d": [4], "poly": range(6, 2 * most_points + 1, 2)}
    for length in lengths.get(kind, range(4, 2 * most_points + 1, 2)):
        yield from product(GRID, repeat=length)


def prefixes_of_valid(kind, key, most_points, *, ordered):
    """Every prefix of every valid list of at most so many points."""
    found = set()
    for values in complete_lists(kind, most_points):
        if is_valid(kind, values, key, ordered=ordered):
            found.update(values[:n] for n in range(1, len(values) + 1))
    return found


KEYS = [None, *(Key(top, left) for top in GRID for left in GRID)]


@pytest.mark.usefixtures("_small_grid")
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("kind", "most"), [("bbox_2d", 3), ("poly", 3), ("poly", 4), ("line", 3)])
def test_a_bin_is_allowed_exactly_where_some_valid_list_goes_on_with_it(kind, most, ordered):
    """No valid list is shut out, and no choice leads to a list that cannot become valid."""
    for key in KEYS:
        if most == 4 and key not in (None, (0, 1), (1, 1), (0, 2)):
            continue
        rules = rules_of(
            (kind, "line"), ordered=ordered, max_points=most, sorted_objects=key is not None
        )
        good = prefixes_of_valid(kind, key, most, ordered=ordered)
        feasible = kind in rules._kinds_behind(key) if ordered and key else True
        assert feasible == bool(good)
        for prefix in [(), *good] if good else []:
            follow = {values[-1] for values in ((*prefix, k) for k in GRID) if values in good}
            if not follow:
                continue
            low, high, but = rules.bins(kind, prefix, key)
            assert {k for k in GRID if low <= k <= high and k != but} == follow, (key, prefix)


@pytest.mark.usefixtures("_small_grid")
@pytest.mark.parametrize("kind", ["poly", "line"])
def test_a_list_may_close_where_it_is_valid_and_go_on_while_there_is_room(kind):
    """Closing asks for an area, going on for a point below the maximum; one of both is open."""
    rules = rules_of((kind,), ordered=True, max_points=4, sorted_objects=False)
    for values in prefixes_of_valid(kind, None, 4, ordered=True):
        if len(values) % 2 == 0 and len(values) >= (6 if kind == "poly" else 4):
            turn = rules.turn(kind, values, None, 1)
            assert turn.close == is_valid(kind, values, None, ordered=True)
            assert turn.go_on == (len(values) < 8)
            assert turn.close or turn.go_on


def test_the_last_record_is_followed_by_none():
    """Where the maximum of objects is reached, no geometry may follow; before, all may."""
    settings = ConstraintSettings(mode="grammar", max_objects=2)
    rules = CoordinateRules(settings, numbered=True)
    box = (1, 1, 5, 5)
    assert rules.turn("bbox_2d", box, None, 1).kinds == settings.geometries
    assert rules.turn("bbox_2d", box, None, 1).number == 1
    assert rules.turn("bbox_2d", box, None, 2).kinds == ()


def test_only_lines_follow_a_line_in_the_last_corner():
    """Behind a line at the very end of the grid there is no room for a box or an area."""
    settings = ConstraintSettings(mode="grammar", sorted_objects=True)
    rules = CoordinateRules(settings, numbered=False)
    assert rules.turn("line", (999, 999, 999, 999), None, 1).kinds == ("line",)
    assert rules.turn("line", (998, 998, 999, 999), None, 1).kinds == settings.geometries
    assert rules.turn("line", (999, 998, 999, 998), None, 1).kinds == ("line",)
    assert rules.turn("line", (999, 997, 999, 999), None, 1).kinds == settings.geometries
