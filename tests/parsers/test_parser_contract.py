"""The tables of the parsing contract: issues around records, and drop reasons inside them."""

import pytest
from texts import CAT, DOG, G, H, coords, record, wrap

from coordeval.parsers import parse

NOTES = {"nonstandard_spacing", "coord_token_in_desc"}


def kept(parsed):
    return [(obj.desc, obj.values) for obj in parsed.objects]


AROUND = {
    "canonical": (wrap(G, H), set(), [CAT, DOG]),
    "empty list": ('{"objects": []}', set(), []),
    "nothing": ("", {"empty_output"}, []),
    "white space only": (" \n\t", {"empty_output"}, []),
    "prose before": ("Here it is: " + wrap(G), {"text_before"}, [CAT]),
    "prose after": (wrap(G) + " That is all.", {"text_after"}, [CAT]),
    "chat marker before": ("<|im_start|>" + wrap(G), {"text_before"}, [CAT]),
    "end token after": (wrap(G) + "<|im_end|>", {"text_after"}, [CAT]),
    "fence": ("```json\n" + wrap(G) + "\n```", {"code_fence"}, [CAT]),
    "prose and fence": (
        "Sure!\n```json\n" + wrap(G) + "\n```\nDone",
        {"text_before", "code_fence", "text_after"},
        [CAT],
    ),
    "bare list": (f"[{G}, {H}]", {"no_container"}, [CAT, DOG]),
    "bare record": (G, {"no_container"}, [CAT]),
    "bare empty list": ("[]", {"no_container"}, []),
    "single quotes": ("{'objects': []}", {"no_container"}, []),
    "empty braces": ("{}", {"no_container"}, []),
    "prose only": ("I see no objects.", {"no_container"}, []),
    "other capital": (f'{{"Objects": [{G}]}}', {"no_container"}, [CAT]),
    "map instead of a list": ('{"objects": {}}', {"no_container"}, []),
    "missing colon": (f'{{"objects" [{G}, {H}]}}', {"no_container"}, [CAT, DOG]),
    "cut in the first key": ('{"obj', {"no_container", "truncated"}, []),
    "second container": (wrap(G) + wrap(H), {"second_container"}, [CAT]),
    "second container and prose": (
        wrap(G) + wrap(H) + " end",
        {"second_container", "text_after"},
        [CAT],
    ),
    "trailing comma in list": (f'{{"objects": [{G}, ]}}', {"trailing_comma"}, [CAT]),
    "trailing comma in record": (wrap(G[:-1] + ",}", H), {"trailing_comma"}, [CAT, DOG]),
    "trailing comma in array": (wrap(G[:-2] + ", ]}", H), {"trailing_comma"}, [CAT, DOG]),
    "trailing comma in container": (f'{{"objects": [{G}],}}', {"trailing_comma"}, [CAT]),
    "two commas": (f'{{"objects": [{G},, {H}]}}', {"trailing_comma"}, [CAT, DOG]),
    "no comma": (f'{{"objects": [{G} {H}]}}', {"missing_comma"}, [CAT, DOG]),
    "no comma, no space": (f'{{"objects": [{G}{H}]}}', {"missing_comma"}, [CAT, DOG]),
    "null among records": (f'{{"objects": [null, {G}, {H}]}}', {"stray_value"}, [CAT, DOG]),
    "number among records": (f'{{"objects": [{G}, 5, {H}]}}', {"stray_value"}, [CAT, DOG]),
    "string among records": (f'{{"objects": [{G}, "x {{", {H}]}}', {"stray_value"}, [CAT, DOG]),
    "nested list": (f'{{"objects": [[{G}, {H}]]}}', {"stray_value"}, [CAT, DOG]),
    "doubled brace": (f'{{"objects": [{G}}}, {H}]}}', {"stray_value"}, [CAT, DOG]),
    "key after": (f'{{"objects": [{G}], "n": [1, {{"a": 2}}]}}', {"unknown_top_level_key"}, [CAT]),
    "key before": (f'{{"n": 1, "objects": [{G}]}}', {"unknown_top_level_key"}, [CAT]),
    "braces in prose, key before": (
        f'{{ so }} {{"so": 1}} {{"n": {{"a": 1}}, "objects": [{G}]}} {{"objects": [{H}]}}',
        {"text_before", "unknown_top_level_key", "second_container"},
        [CAT],
    ),
    "key before, in a map": (
        f'{{"a": {{"n": 1, "objects": [{G}]}}}}',
        {"text_before", "text_after", "unknown_top_level_key"},
        [CAT],
    ),
    "key in prose": (
        f'"objects": [...] are: {wrap(G)}{wrap(H)}',
        {"text_before", "second_container"},
        [CAT],
    ),
    "special token among records": (
        f'{{"objects": [{G}, <|box_start|>, {H}]}}',
        {"stray_value"},
        [CAT, DOG],
    ),
    "end token among records": (
        f'{{"objects": [{G}, <|im_end|>, {H}]}}',
        {"truncated", "text_after"},
        [CAT],
    ),
    "special token where the text is cut": (
        f'{{"objects": [{G}, <|box_start|>',
        {"truncated", "text_after"},
        [CAT],
    ),
    "words behind the list": (f'{{"objects": [{G}] and {H}]}}', {"stray_value"}, [CAT, DOG]),
    "two brackets": (f'{{"objects": [{G}]] {H}]}}', {"stray_value"}, [CAT, DOG]),
    "words behind the list, another container": (
        f'{{"objects": [{G}] and {wrap(H)}',
        {"truncated", "text_after", "second_container"},
        [CAT],
    ),
    "cut after [": ('{"objects": [', {"truncated"}, []),
    "cut after record": (f'{{"objects": [{G}', {"truncated"}, [CAT]),
    "cut after comma": (f'{{"objects": [{G}, ', {"truncated"}, [CAT]),
    "cut after ]": (f'{{"objects": [{G}]', {"truncated"}, [CAT]),
    "pretty printed": (f'{{\n  "objects": [\n    {G},\n    {H}\n  ]\n}}', set(), [CAT, DOG]),
    "no spaces": (wrap(G, H).replace(" ", ""), set(), [CAT, DOG]),
    "line break at the end": (wrap(G) + "\n", set(), [CAT]),
    "geometry first": (wrap(f'{{"bbox_2d": {coords((1, 2, 3, 4))}, "desc": "cat"}}'), set(), [CAT]),
    "hostile desc": (
        wrap(record(r"]} , {[ \" 猫 🦉 {\"desc\": \"x"), H),
        set(),
        [(']} , {[ " 猫 🦉 {"desc": "x', (1, 2, 3, 4)), DOG],
    ),
    "token in desc": (wrap(record("<|coord_7|>"), H), set(), [("<|coord_7|>", (1, 2, 3, 4)), DOG]),
    "escaped desc": (wrap(record(r"caf\u00e9\n"), H), set(), [("café\n", (1, 2, 3, 4)), DOG]),
}


@pytest.mark.parametrize(("text", "issues", "objects"), AROUND.values(), ids=AROUND.keys())
def test_what_stands_around_records_is_an_issue_and_costs_no_record(text, issues, objects):
    """What is wrong around the records is named, and every record is kept."""
    parsed = parse(text)
    assert set(parsed.issues) - NOTES == issues
    assert parsed.dropped_by_reason == {}
    assert kept(parsed) == objects
    assert parsed.conforming == (not issues)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (wrap(G, H).replace(", ", ","), "nonstandard_spacing"),
        (wrap(G).replace(": ", ":"), "nonstandard_spacing"),
        ("\n" + wrap(G), "nonstandard_spacing"),
        (wrap(record("<|coord_7|>")), "coord_token_in_desc"),
    ],
)
def test_notes_are_recorded_but_leave_a_text_conforming(text, note):
    """Spacing and tokens in descriptions are notes."""
    parsed = parse(text)
    assert note in parsed.issues
    assert parsed.conforming


BROKEN = {
    "CJK in slot 0": (G.replace("<|coord_1|>", "第九"), "wrong_arity", "foreign_token"),
    "digits": (G.replace("<|coord_3|>", "85"), "wrong_arity", "foreign_token"),
    "word": (G.replace("<|coord_3|>", "book"), "wrong_arity", "foreign_token"),
    "five with a foreign one": (G.replace("[", "[第九, "), "wrong_arity", "foreign_token"),
    "leading zeros": (G.replace("coord_1|", "coord_001|"), "wrong_arity", "foreign_token"),
    "quoted token": (G.replace("<|coord_1|>", '"<|coord_1|>"'), "wrong_arity", "foreign_token"),
    "negative token": (G.replace("coord_1|", "coord_-1|"), "wrong_arity", "foreign_token"),
    "wide digit": (G.replace("coord_4|", "coord_4\uff12|"), "wrong_arity", "foreign_token"),
    "float": (G.replace("<|coord_1|>", "1.5"), "wrong_arity", "foreign_token"),
    "lone quote": (G.replace("<|coord_1|>", '"'), "wrong_arity", "foreign_token"),
    "brace": (G.replace("<|coord_4|>", "}"), "wrong_arity", "foreign_token"),
    "null": (G.replace("<|coord_4|>", "null"), "wrong_arity", "foreign_token"),
    "three": (record(values=(1, 2, 3)), "wrong_arity", "too_few"),
    "five": (record(values=(1, 2, 3, 4, 5)), "wrong_arity", "too_many"),
    "none": ('{"desc": "cat", "bbox_2d": []}', "wrong_arity", "too_few"),
    "polygon of two points": (record(values=(1, 2, 3, 4), key="poly"), "wrong_arity", "too_few"),
    "polygon of 7": (record(values=range(7), key="poly"), "wrong_arity", "odd_count"),
    "line of one point": (record(values=(1, 2), key="line"), "wrong_arity", "too_few"),
    "line of 5": (record(values=range(5), key="line"), "wrong_arity", "odd_count"),
    "pairs": (
        f'{{"desc": "cat", "bbox_2d": [{coords((1, 2))}, {coords((3, 4))}]}}',
        "wrong_arity",
        "nested",
    ),
    "map with a list": (
        G.replace("<|coord_3|>", '{"x": [3], "y": {"z": 3}}'),
        "wrong_arity",
        "foreign_token",
    ),
    "map with a list, geometry first": (
        '{"bbox_2d": [{"x": [1]}, <|coord_2|>, <|coord_3|>, <|coord_4|>], "desc": "cat"}',
        "wrong_arity",
        "foreign_token",
    ),
    "no commas in the list": (G.replace(">, <", "> <"), "wrong_arity", "separator"),
    "list not closed": (G.replace("]", ""), "wrong_arity", "separator"),
    "list not closed, geometry first": (
        '{"bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>, "desc": "cat"}',
        "wrong_arity",
        "separator",
    ),
    "1000": (record(values=(1, 2, 3, 1000)), "coord_out_of_range", None),
    "huge": (record(values=(1, 2, 3, 10**30)), "coord_out_of_range", None),
    "inverted": (record(values=(3, 2, 1, 4)), "degenerate_box", "empty_box"),
    "zero width": (record(values=(3, 2, 3, 4)), "degenerate_box", "empty_box"),
    "zero height": (record(values=(1, 2, 3, 2)), "degenerate_box", "empty_box"),
    "flat polygon": (record(values=(1, 1, 2, 2, 3, 3), key="poly"), "degenerate_box", "zero_area"),
    "bbox_3d": (record(key="bbox_3d"), "unexpected_keys", "bbox_3d"),
    "extra key": (G[:-1] + ', "score": 0.5}', "unexpected_keys", "score"),
    "nested extra": (G[:-1] + ', "x": {"desc": "a", "y": [{}]}}', "unexpected_keys", "x"),
    "extra key and bad list": (record(values=(1,), key="bbox_d"), "unexpected_keys", "bbox_d"),
    "desc twice": (
        '{"desc": "a", "desc": "b", "bbox_2d": ' + coords((1, 2, 3, 4)) + "}",
        "duplicate_keys",
        "desc",
    ),
    "no desc": ('{"bbox_2d": ' + coords((1, 2, 3, 4)) + "}", "missing_desc", "absent"),
    "blank desc": (record("  "), "missing_desc", "blank"),
    "empty desc": (record(""), "missing_desc", "blank"),
    "number for desc": (G.replace('"cat"', "5"), "missing_desc", "not_a_string"),
    "null for desc": (G.replace('"cat"', "null"), "missing_desc", "not_a_string"),
    "no geometry": ('{"desc": "cat"}', "missing_geometry", "absent"),
    "geometry is null": ('{"desc": "cat", "bbox_2d": null}', "missing_geometry", "not_a_list"),
    "two geometries": (
        G[:-1] + ', "line": ' + coords((1, 2, 3, 4)) + "}",
        "multiple_geometry",
        "bbox_2d,line",
    ),
    "empty record": ("{}", "missing_desc", "absent"),
    "desc not quoted": (G.replace('"cat"', "cat"), "malformed_record", "bad_value"),
    "no colon": (G.replace('desc":', 'desc"'), "malformed_record", "missing_colon"),
    "no comma": (G.replace('"cat",', '"cat"'), "malformed_record", "missing_comma"),
    "line break in desc": (record("a\nb"), "malformed_record", "bad_string"),
    "bad escape": (record(r"a\x"), "malformed_record", "bad_string"),
    "no closing brace": (G[:-1], "malformed_record", None),
}


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize(("broken", "reason", "detail"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_has_one_reason_and_costs_no_neighbour(broken, reason, detail, place):
    """Whatever breaks a record, it is one drop with its reason, and its neighbours are kept."""
    records = [G, H]
    records.insert(place, broken)
    parsed = parse(wrap(*records))
    assert parsed.dropped_by_reason == {reason: 1}
    assert kept(parsed) == [CAT, DOG]
    assert set(parsed.issues) <= NOTES
    assert not parsed.conforming
    [drop] = parsed.drops
    if detail is not None:
        assert drop.detail == detail
    assert wrap(*records)[drop.start : drop.end].startswith(broken[:12])
    assert drop.end - drop.start == len(broken)


@pytest.mark.parametrize("cut", range(G.index("<") + 1, G.rindex("|>")))
def test_closing_brackets_among_coordinates_cost_no_neighbour(cut):
    """Where `}]` stands among coordinates the container is broken, and its list goes on."""
    parsed = parse(wrap(G, G[:cut] + "}]" + G[cut:], H, G))
    assert kept(parsed) == [CAT, DOG, CAT]
    assert parsed.objects_found == 4
    assert "truncated" not in parsed.issues


@pytest.mark.parametrize("followers", [[], [H], [H, H]])
@pytest.mark.parametrize(
    "broken",
    [
        '{"desc": "cat, "bbox_2d": ' + coords((1, 2, 3, 4)) + "}",
        '{"bbox_2d": ' + coords((1, 2, 3, 4)) + ', "desc": "cat}',
        '{"desc: "cat", "bbox_2d": ' + coords((1, 2, 3, 4)) + "}",
    ],
)
def test_an_unclosed_string_costs_its_record_alone(broken, followers):
    """A missing closing quote is one malformed record and an issue; records after it are kept."""
    geometry_first = [f'{{"bbox_2d": {coords((5, 6, 7, 8))}, "desc": "dog"}}'] * len(followers)
    for after in (followers, geometry_first):
        parsed = parse(wrap(G, broken, *after))
        assert parsed.dropped_by_reason == {"malformed_record": 1}
        assert "unclosed_string" in parsed.issues
        assert kept(parsed) == [CAT] + [DOG] * len(after)


@pytest.mark.parametrize("desc", ["a}] and", "a}, { x", "a}]} b", 'a\\"}] ,{ ', "}}]", "{[}]x"])
def test_a_cut_inside_a_string_is_a_truncated_record_whatever_the_string_holds(desc):
    """Brackets in an open description are its own text: nothing is malformed, all before is kept."""
    parsed = parse('{"objects": [' + G + ', {"desc": "' + desc)
    assert parsed.dropped_by_reason == {"truncated_record": 1}
    assert parsed.issues == {"truncated": 1}
    assert kept(parsed) == [CAT]


def test_every_cut_inside_a_record_is_one_truncated_record():
    """Cut at any character inside the last record: those before are kept, the last is truncated."""
    text = wrap(G, H)
    start = text.index(H)
    for cut in range(start + 1, start + len(H)):
        parsed = parse(text[:cut])
        assert parsed.dropped_by_reason == {"truncated_record": 1}, text[:cut]
        assert kept(parsed) == [CAT]
        assert set(parsed.issues) == {"truncated"}


@pytest.mark.parametrize("element", ["{}", '{"x": 1}', '{"x": [1]}', "[]", '"x"', "第九"])
def test_every_cut_of_a_list_with_something_foreign_is_one_truncated_record(element):
    """A closing brace inside the brackets, the last character or not, does not end the record."""
    text = wrap(G, H.replace("<|coord_6|>", element))
    start = text.index("[", len(wrap(G))) + 1
    for cut in range(start, text.rindex("]}]")):
        parsed = parse(text[:cut])
        assert parsed.dropped_by_reason == {"truncated_record": 1}, text[:cut]
        assert kept(parsed) == [CAT]


def test_the_foreign_token_is_shown_with_its_slot():
    """Detail foreign_token carries the text and the slot at which it stands."""
    [drop] = parse(wrap(G.replace("<|coord_3|>", "第九"))).drops
    assert (drop.evidence, drop.slot) == ("第九", 2)


def test_the_first_reason_that_holds_wins():
    """A record with several faults gets the earliest reason of the table."""
    several = '{"desc": "", "bbox_3d": [1], "bbox_3d": [2]}'
    assert parse(wrap(several)).dropped_by_reason == {"unexpected_keys": 1}
    assert parse(wrap(several)[:-6]).dropped_by_reason == {"truncated_record": 1}
    assert parse(wrap('{"desc": "", "bbox_2d": [85]}')).dropped_by_reason == {"missing_desc": 1}
    out_and_inverted = record(values=(1000, 5, 3, 1))
    assert parse(wrap(out_and_inverted)).dropped_by_reason == {"coord_out_of_range": 1}


def test_readable_parts_of_dropped_records_are_kept_for_diagnosis():
    """Dropped records still show their description and coordinates where these can be read."""
    [drift] = parse(wrap(record("kite", key="bbox_3d"))).drops
    assert (drift.desc, drift.values, drift.kind) == ("kite", (1, 2, 3, 4), "bbox_2d")
    [short] = parse(wrap(record("kite", (1, 2, 3)))).drops
    assert (short.desc, short.values) == ("kite", (1, 2, 3))


SPARED = {
    "string before a record without comma": (f'{{"objects": ["a]" {G}]}}', [CAT]),
    "string with a brace before a record": (f'{{"objects": ["{{" {G}]}}', [CAT]),
    "braces in desc": (f'{{"objects": [{{"desc": {{{{"x", "bbox_2d": []}}, {G}]}}', [CAT]),
    "open brace for a value": (f'{{"objects": [{{"desc": {{"x", "bbox_2d": []}}, {G}]}}', [CAT]),
    "last geometry-first record without brace": (
        wrap(G, f'{{"bbox_2d": {coords((5, 6, 7, 8))}, "desc": "dog"'),
        [CAT],
    ),
}


@pytest.mark.parametrize(("text", "objects"), SPARED.values(), ids=SPARED.keys())
def test_odd_breaks_cost_no_neighbour_and_no_false_truncation(text, objects):
    """Strings, stray braces and missing braces around a good record leave it whole."""
    parsed = parse(text)
    assert kept(parsed) == objects
    assert "truncated" not in parsed.issues
    assert parsed.objects_found - parsed.objects_valid <= 1


@pytest.mark.parametrize(
    ("inside", "detail"),
    [
        ('{"x1": <|coord_1|>}, <|coord_2|>, <|coord_3|>, <|coord_4|>', "nested"),
        ("{}", "nested"),
        ('1, 2, "a] b", 40', "foreign_token"),
        ('"<|coord_1|>": <|coord_2|>', "foreign_token"),
    ],
)
@pytest.mark.parametrize("geometry_first", [False, True])
def test_whatever_stands_inside_the_brackets_is_wrong_arity(inside, detail, geometry_first):
    """Maps, strings and colons inside a geometry list never make the record malformed."""
    fields = [f'"bbox_2d": [{inside}]', '"desc": "a"']
    middle = "{" + ", ".join(fields if geometry_first else fields[::-1]) + "}"
    parsed = parse(wrap(G, middle, H))
    assert parsed.dropped_by_reason == {"wrong_arity": 1}
    assert parsed.drops[0].detail == detail
    assert kept(parsed) == [CAT, DOG]


@pytest.mark.parametrize("desc", ["<|coord_", "<|coord_5", "coord_5|>", "<|coord_x|>"])
def test_a_part_of_a_token_is_no_token_in_a_desc(desc):
    """Only a whole coordinate token in a description is worth a note."""
    assert parse(wrap(record(desc))).issues == {}


HOSTILE = {
    "escaped quotes among records": '{"objects": [' + '\\"' * 300_000,
    "escaped quotes in a map": '{"object_1": {"desc":"a"}, ' + '\\"' * 300_000,
    "containers in containers": '{"objects": []}' + '{"objects": [' * 40_000 + "}",
    "opened lists": '{"' + '{"objects": [], ' * 40_000 + "]}",
    "brackets": "[" * 500_000,
    "records never closed": '{"desc": "a", "x": [' * 40_000,
    "mismatched values": '{"objects": [' + '{"desc": "a", "e": [}, ' * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("dialect", ["coordjson", "object-map-bare"])
def test_hostile_texts_are_read_to_the_end(text, dialect):
    """Texts on which rescanning would take hours are read like any other."""
    parsed = parse(text, dialect)
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    assert not parsed.conforming
