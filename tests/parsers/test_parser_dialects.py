"""Dialects on the one parser: quoted tokens, integers, the older map, enforced field order."""

import pytest
from texts import CAT, DOG, G, H, coords, record, wrap

from coordeval.errors import ConfigError
from coordeval.parsers import DIALECTS, dialect_named, parse

QUOTED = wrap(G, H).replace("<|", '"<|').replace("|>", '|>"')
BINS = '{"objects": [{"desc": "cat", "bbox_2d": [1, 2, 3, 4]}, {"desc": "dog", "bbox_2d": [5, 6, 7, 8]}]}'
MAP = f'{{"object_1": {G}, "object_2": {H}}}'


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("coordjson", wrap(G, H)),
        ("coordjson-quoted", QUOTED),
        ("coordjson-bins", BINS),
        ("coordjson-pixels", BINS),
        ("object-map-bare", MAP),
        ("object-map", MAP.replace("<|", '"<|').replace("|>", '|>"')),
    ],
)
def test_each_dialect_reads_its_own_form(dialect, text):
    """Every dialect finds both objects in its own form and calls it conforming."""
    parsed = parse(text, dialect)
    assert [(o.desc, o.values) for o in parsed.objects] == [CAT, DOG]
    assert parsed.conforming
    assert parsed.issues == {}


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("coordjson", QUOTED),
        ("coordjson", BINS),
        ("coordjson-quoted", wrap(G, H)),
        ("coordjson-bins", wrap(G, H)),
    ],
)
def test_the_coordinates_of_another_dialect_are_foreign(dialect, text):
    """Nothing is guessed: coordinates in another form than declared are foreign tokens."""
    parsed = parse(text, dialect)
    assert parsed.dropped_by_reason == {"wrong_arity": 2}
    assert {drop.detail for drop in parsed.drops} == {"foreign_token"}


def test_pixels_have_no_upper_bound_but_bins_do():
    """1000 and more is out of range for bins and an ordinary pixel for pixels."""
    text = BINS.replace("8]", "1280]")
    assert parse(text, "coordjson-bins").dropped_by_reason == {"coord_out_of_range": 1}
    assert parse(text, "coordjson-pixels").objects[1].values == (5, 6, 7, 1280)


@pytest.mark.parametrize("bad", ["-1", "1.0", "1e2", "007", "+3", "NaN", "1\uff12", '"7"'])
def test_integer_dialects_take_plain_integers_only(bad):
    """Signs, fractions, exponents, leading zeros and strings are foreign."""
    parsed = parse(BINS.replace("[1,", f"[{bad},"), "coordjson-bins")
    assert parsed.dropped_by_reason == {"wrong_arity": 1}
    assert parsed.drops[0].evidence == bad


def test_map_entries_come_in_numeric_order():
    """object_10 comes after object_2, whatever the order of writing."""
    entries = [10, 2, 1]
    text = "{" + ", ".join(f'"object_{n}": {record(str(n))}' for n in entries) + "}"
    assert [o.desc for o in parse(text, "object-map-bare").objects] == ["1", "2", "10"]


@pytest.mark.parametrize(
    ("text", "issues", "drops", "found"),
    [
        ("{}", set(), {}, 0),
        (f'{{"object_1": {G}, ', {"truncated"}, {}, 1),
        (f'{{"object_1": {G}, "object_2": {{"desc": "a', {"truncated"}, {"truncated_record": 1}, 2),
        (f'{{"object_1": {G} "object_2": {H}}}', {"missing_comma"}, {}, 2),
        (f'{{"object_1": {G}, "object_2": {H},}}', {"trailing_comma"}, {}, 2),
        (f'{{"object_1": {G}, "n": 1}}', {"unknown_top_level_key"}, {}, 1),
        (f'{{"object_1": {G[:-1]}, "object_2": {H}}}', set(), {"malformed_record": 1}, 2),
        (f'{{"object_1": {G}, <|box_start|>, "object_2": {H}}}', {"stray_value"}, {}, 2),
        (f'{{"object_1": {G}, <|im_end|>, "object_2": {H}}}', {"truncated", "text_after"}, {}, 1),
        (f'{{"object_1": {G}, "object_2\uff12": {H}}}', {"unknown_top_level_key"}, {}, 2),
        (wrap(G, H), {"no_container"}, {}, 2),
        ("```json\n" + MAP + "\n```", {"code_fence"}, {}, 2),
    ],
)
def test_the_map_recovers_like_the_list(text, issues, drops, found):
    """Cuts, commas and broken entries of the map cost no neighbour."""
    parsed = parse(text, "object-map-bare")
    assert set(parsed.issues) - {"nonstandard_spacing"} == issues
    assert parsed.dropped_by_reason == drops
    assert parsed.objects_found == found


def test_field_order_is_enforced_only_on_request():
    """key_order is a reason only where the dialect enforces its order."""
    geometry_first = wrap(f'{{"bbox_2d": {coords((1, 2, 3, 4))}, "desc": "cat"}}')
    assert parse(geometry_first).conforming
    strict = dialect_named("coordjson", field_order="desc_first", enforce_field_order=True)
    assert parse(geometry_first, strict).dropped_by_reason == {"key_order": 1}
    assert parse(wrap(G), strict).conforming
    other = dialect_named("coordjson", field_order="geometry_first", enforce_field_order=True)
    assert parse(wrap(G), other).dropped_by_reason == {"key_order": 1}
    assert parse(geometry_first, other).conforming


def test_an_unknown_dialect_lists_the_known_ones():
    """A wrong name is a configuration error that names the dialects."""
    with pytest.raises(ConfigError, match="coordjson-quoted"):
        parse("", "coordjsn")
    assert set(DIALECTS) >= {"coordjson", "object-map"}


BROKEN_ENTRIES = {
    "closing brace in desc": '{"desc": "}"x", "bbox_2d": [<|coord_1|>]}',
    "brace too many": G + "}",
    "open brace for desc": '{"desc": {x", "bbox_2d": []}',
    "open bracket for desc": '{"desc": [x", "bbox_2d": []}',
    "unquoted key": "{desc: 1}",
    "no bracket": G.replace("]", ""),
    "unclosed desc": '{"bbox_2d": ' + coords((1, 2, 3, 4)) + ', "desc": "X}',
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("entry", BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES.keys())
def test_a_broken_entry_of_the_map_costs_no_other(entry, last):
    """Entries before and after a broken one are read, and a whole text is not called truncated."""
    others = f'"object_2": {H}' if last else f'"object_3": {H}'
    entries = [others, f'"object_9": {entry}'] if last else [f'"object_1": {entry}', others]
    parsed = parse("{" + ", ".join(entries) + "}", "object-map-bare")
    assert DOG in [(o.desc, o.values) for o in parsed.objects]
    if not last or entry.count("{") + entry.count("[") == entry.count("}") + entry.count("]"):
        assert "truncated" not in parsed.issues


@pytest.mark.parametrize(
    ("text", "issues"),
    [
        ("{}<|im_end|>", {"text_after"}),
        ("Sure: {}", {"text_before"}),
        ("```json\n{}\n```", {"code_fence"}),
        ('{"objects": {}}', {"no_container"}),
        (f'{{"object_1": {G}, "obj', {"truncated"}),
        (f'{{"object_1": {G}, "object_2"', {"truncated"}),
        (f'{{"object_1": {G}, "object_2": ', {"truncated"}),
        (f'{{"object_1": {G}, "n": [1, [2]]}}', {"unknown_top_level_key"}),
    ],
)
def test_the_edges_of_the_map_are_those_of_the_list(text, issues):
    """Empty maps, cuts inside a key and extra values get the issues of the list container."""
    parsed = parse(text, "object-map-bare")
    assert set(parsed.issues) - {"nonstandard_spacing"} == issues
    assert parsed.dropped_by_reason == {}
