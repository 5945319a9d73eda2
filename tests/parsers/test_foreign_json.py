"""JSON dialects of others: the contract's table in other names, and what only they are read for."""

import json
from dataclasses import replace

import pytest

from coordeval.data.canonical import render_text
from coordeval.errors import ConfigError
from coordeval.parsers import dialect_named, parse
from coordeval.parsers.declared import declared

CAT = ("cat", (1, 2, 30, 40))
DOG = ("dog", (5, 6, 70, 80))
PIG = ("pig", (7, 8, 90, 95))


def rec(desc="cat", values=(1, 2, 30, 40)):
    return f'{{"bbox_2d": [{", ".join(map(str, values))}], "label": "{desc}"}}'


G, H, P = rec(*CAT), rec(*DOG), rec(*PIG)


def read(text, dialect="qwen3vl"):
    parsed = parse(text, dialect)
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    spans = [(record.start, record.end) for record in parsed.records]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:], strict=False))
    return parsed


def kept(parsed):
    return [(record.desc, record.values) for record in parsed.objects]


ACCEPTED = {
    "bare list": (f"[{G}, {H}]", set(), [CAT, DOG]),
    "fence": (f"```json\n[\n\t{G},\n\t{H}\n]\n```", set(), [CAT, DOG]),
    "fence without a language": (f"```\n[{G}]\n```\n", set(), [CAT]),
    "empty list": ("[]", set(), []),
    "empty list in a fence": ("```json\n[]\n```", set(), []),
    "prose around a fence": (
        f"Sure:\n```json\n[{G}]\n```\nDone.",
        {"text_before", "text_after"},
        [CAT],
    ),
    "end token": (f"[{G}]<|im_end|>", {"text_after"}, [CAT]),
    "trailing comma in the list": (f"[{G}, {H},]", {"trailing_comma"}, [CAT, DOG]),
    "trailing comma in a record": (f"[{G[:-1]},\n}}, {H}]", {"trailing_comma"}, [CAT, DOG]),
    "trailing comma in an array": (
        f"[{G.replace('40]', '40, ]')}, {H}]",
        {"trailing_comma"},
        [CAT, DOG],
    ),
    "no comma": (f"[{G}\n{H}]", {"missing_comma"}, [CAT, DOG]),
    "stray values": (f'[{G}, null, 7, "x", {H}]', {"stray_value"}, [CAT, DOG]),
    "one record alone": (G, {"no_container"}, [CAT]),
    "records on lines": (f"{G}\n{H}", {"no_container"}, [CAT, DOG]),
    "cut after a record": (f"[{G}, {H}", {"truncated"}, [CAT, DOG]),
    "cut after a comma": (f"[{G}, ", {"truncated"}, [CAT]),
    "second list": (f"[{G}]\n[{H}]", {"second_container", "text_after"}, [CAT]),
    "special token among records": (f"[{G}, <|box_start|>, {H}]", {"stray_value"}, [CAT, DOG]),
    "end token among records": (
        f"[{G}, <|im_end|>{H}]",
        {"truncated", "second_container", "text_after"},
        [CAT],
    ),
    "prose only": ("I see no cats.", {"no_container"}, []),
    "nothing": (" \n", {"empty_output"}, []),
    "thousand": (f"[{rec('cat', (0, 0, 1000, 1000))}]", set(), [("cat", (0, 0, 1000, 1000))]),
    "brackets and a quote in a name": (
        '[{"bbox_2d": [1, 2, 30, 40], "label": "]} , {[ \\" 猫"}, ' + H + "]",
        set(),
        [(']} , {[ " 猫', (1, 2, 30, 40)), DOG],
    ),
    "name first": ('[{"label": "cat", "bbox_2d": [1, 2, 30, 40]}]', set(), [CAT]),
    "python quotes": (str([json.loads(G), json.loads(H)]), {"single_quotes"}, [CAT, DOG]),
    "python quotes in a fence": (
        f"```python\n{[json.loads(G)]}\n```",
        {"single_quotes"},
        [CAT],
    ),
    "apostrophes before python quotes": (
        f"Here's what's there: {[json.loads(G)]}",
        {"single_quotes", "text_before"},
        [CAT],
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_surrounds_records_is_noted_and_costs_none(name):
    """Fences are part of the dialect; everything else around records is an issue, never a drop."""
    text, issues, objects = ACCEPTED[name]
    parsed = read(text)
    assert set(parsed.issues) == issues
    assert parsed.drops == []
    assert kept(parsed) == objects
    assert parsed.conforming == (not issues)


DROPPED = {
    "cut inside": (f"[{G}, {H[:-8]}", [("truncated_record", None)], [CAT]),
    "doubled braces": (f"[{{{G}}}, {H}]", [("malformed_record", "missing_key")], [CAT, DOG]),
    "brace on a line of its own": (
        f"[{G},\n{{\n{H}\n]",
        [("malformed_record", "missing_key")],
        [CAT, DOG],
    ),
    "unclosed quote": (
        f"[{G[:-2]}}}, {H}, {P}]",
        [("malformed_record", "unclosed_string")],
        [DOG, PIG],
    ),
    "unclosed python quote": (
        "[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat}, {'bbox_2d': [5, 6, 70, 80], 'label': 'dog'}]",
        [("malformed_record", "unclosed_string")],
        [DOG],
    ),
    "missing brace": (f"[{G[:-1]}, {H}, {P}]", [("malformed_record", "missing_key")], [DOG, PIG]),
    "three-dimensional": (
        '[{"bbox_3d": [2.88, -0.56, 6.28], "label": "car"}, ' + H + "]",
        [("unexpected_keys", "bbox_3d")],
        [DOG],
    ),
    "another key": (
        f'[{G[:-1]}, "img_idx": 0}}, {H}]',
        [("unexpected_keys", "img_idx")],
        [DOG],
    ),
    "key twice": (f'[{G[:-1]}, "label": "x"}}, {H}]', [("duplicate_keys", "label")], [DOG]),
    "two names": (
        f'[{G[:-1]}, "text_content": "x"}}, {H}]',
        [("duplicate_keys", "label,text_content")],
        [DOG],
    ),
    "no name": (f'[{{"bbox_2d": [1, 2, 3, 4]}}, {H}]', [("missing_desc", "absent")], [DOG]),
    "number for a name": (
        f'[{{"bbox_2d": [1, 2, 3, 4], "label": 7}}, {H}]',
        [("missing_desc", "not_a_string")],
        [DOG],
    ),
    "blank name": (f"[{rec(' ')}, {H}]", [("missing_desc", "blank")], [DOG]),
    "no box": (f'[{{"label": "cat"}}, {H}]', [("missing_geometry", "absent")], [DOG]),
    "box as text": (
        f'[{{"label": "cat", "bbox_2d": "1,2,3,4"}}, {H}]',
        [("missing_geometry", "not_a_list")],
        [DOG],
    ),
    "three numbers": (f"[{rec('cat', (1, 2, 3))}, {H}]", [("wrong_arity", "too_few")], [DOG]),
    "five numbers": (f"[{rec('a', (1, 2, 3, 4, 5))}, {H}]", [("wrong_arity", "too_many")], [DOG]),
    "fraction": (f"[{rec('cat', (1.5, 2, 3, 4))}, {H}]", [("wrong_arity", "foreign_token")], [DOG]),
    "quoted number": (
        f'[{{"bbox_2d": ["1", 2, 3, 4], "label": "cat"}}, {H}]',
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "nested": (f"[{rec('cat', ([1, 2, 3, 4],))}, {H}]", [("wrong_arity", "nested")], [DOG]),
    "no commas": (
        f"[{G.replace(', 2, 30,', ' 2 30')}, {H}]",
        [("wrong_arity", "separator")],
        [DOG],
    ),
    "missing bracket": (f"[{G.replace('40]', '40')}, {H}]", [("wrong_arity", "separator")], [DOG]),
    "above the grid": (
        f"[{rec('cat', (1, 2, 3, 1001))}, {H}]",
        [("coord_out_of_range", None)],
        [DOG],
    ),
    "inverted": (f"[{rec('cat', (9, 2, 3, 4))}, {H}]", [("degenerate_box", "empty_box")], [DOG]),
}


OTHER_KEYS = {
    "other keys altogether": (
        '[{"object": "cat", "corners": [1, 2, 3, 4]}, {"object": "dog", "corners": [1, 2, 3, 4]}]',
        [("unexpected_keys", "corners,object")] * 2,
    ),
    "other keys in a fence, amid prose": (
        'Here it is:\n```json\n[{"object": "cat", "corners": [1, 2, 3, 4]}]\n```',
        [("unexpected_keys", "corners,object")],
    ),
    "keys without quotes": (
        '[{bbox_2d: [1, 2, 3, 4], label: "cat"}, {bbox_2d: [1, 2, 3, 4], label: "dog"}]',
        [("malformed_record", "missing_key")] * 2,
    ),
    "drifted keys in python quotes": (
        "[{'name': 'cat', 'box': [1, 2, 3, 4]}, {'name': 'dog', 'box': [1, 2, 3, 4]}]",
        [("unexpected_keys", "box,name")] * 2,
    ),
    "an empty record": ("[{}]", [("missing_desc", "absent")]),
    "cut in a record of other keys": (
        '[{"object": "cat", "corners": [1, 2',
        [("truncated_record", None)],
    ),
    "cut in its first value": ('[{"object": "ca', [("truncated_record", None)]),
}


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_records_of_other_keys_are_found_where_they_stand_in_the_list(name):
    """What opens inside the list is a found record, however its keys are called."""
    text, drops = OTHER_KEYS[name]
    parsed = read(text)
    assert [(record.reason, record.detail) for record in parsed.drops] == drops
    assert parsed.objects_found == len(drops)
    assert "no_container" not in parsed.issues


FIRST_RECORDS = {
    "missing colon": ('{"bbox_2d" [1, 2, 3, 4], "label": "a"}', "malformed_record"),
    "key never closed": ('{"bbox_2d: [1, 2, 3, 4], "label": "a"}', "malformed_record"),
    "key without quotes": ('{bbox_2d: [1, 2, 3, 4], "label": "a"}', "malformed_record"),
    "key of other letters": ('{"第九": [1, 2, 3, 4], "label": "a"}', "unexpected_keys"),
    "another key first": ('{"id": 1, "bbox_2d": [1, 2, 3, 4], "label": "a"}', "unexpected_keys"),
    "nothing in it": ("{}", "missing_desc"),
    "bracket in a key": ('{"bb]ox_2d": [1, 2, 3, 4], "label": "a"}', "unexpected_keys"),
    "digit before a key": ('{1"bbox_2d": [1, 2, 3, 4], "label": "a"}', "malformed_record"),
}


@pytest.mark.parametrize("name", FIRST_RECORDS)
def test_the_first_record_of_a_list_is_found_however_its_first_key_is_broken(name):
    """A list is not passed over for its first record, which is dropped for its own reason."""
    first, reason = FIRST_RECORDS[name]
    for text in (f"[{first}, {H}]", f"```json\n[\n\t{first},\n\t{H}\n]\n```"):
        parsed = read(text)
        assert [record.reason for record in parsed.drops] == [reason]
        assert kept(parsed) == [DOG]
        assert "no_container" not in parsed.issues
        assert text[parsed.drops[0].start : parsed.drops[0].end] == first


def test_braces_in_prose_are_no_first_record():
    """A record behind prose with brackets stays one without a list."""
    parsed = read(f"The set [{{x}}] holds {G}")
    assert set(parsed.issues) == {"no_container", "text_before"}
    assert kept(parsed) == [CAT]


@pytest.mark.parametrize("stray", ["null", "7", '"x"', "...", 'null, "x"'])
def test_values_before_the_first_record_are_stray(stray):
    """What is no record costs neither the list nor its records, wherever it stands."""
    parsed = read(f"[{stray}, {G}, {H}]")
    assert set(parsed.issues) == {"stray_value"}
    assert kept(parsed) == [CAT, DOG]


def test_every_further_list_is_counted():
    """A list per class is one that is read, and as many second containers as there are others."""
    parsed = read(f"[{G}]\n[{H}]\n[{P}]")
    assert parsed.issues == {"second_container": 2, "text_after": 1}
    assert kept(parsed) == [CAT]


@pytest.mark.parametrize("text", ["no list [1, 2]", "a set {x} in [a, b]", "[{1, 2}, {3}]", "[["])
def test_brackets_in_prose_are_no_list_of_records(text):
    """Only a brace that could open a record makes a list one of records."""
    assert read(text).records == []


@pytest.mark.parametrize("name", DROPPED)
def test_a_record_is_dropped_for_the_first_reason_and_its_neighbours_stay(name):
    """The reasons of the contract hold for other names too; no broken record costs another."""
    text, drops, objects = DROPPED[name]
    parsed = read(text)
    assert [(record.reason, record.detail) for record in parsed.drops] == drops
    assert kept(parsed) == objects


def test_spans_of_python_quotes_are_places_in_the_text_as_written():
    """Escapes change the length of what is read, and not where it stands."""
    text = "[{'bbox_2d': [1, 2, 3, 4], 'label': 'it\\'s a \"cat\"'}, {'bbox_2d': [5, 6, 7, 8], 'label': 'x'}]"
    parsed = read(text)
    assert [record.desc for record in parsed.objects] == ['it\'s a "cat"', "x"]
    for record in parsed.objects:
        assert text[record.start : record.end].startswith("{'bbox_2d'")
        assert text[record.end - 1] == "}"


@pytest.mark.parametrize(
    "name",
    [
        "a\xa0b",
        "it's\xa0a",
        "\U000e0067",
        "it's \U000e0067",
        "\x00\x07",
        "'",
        "''",
        "a\\'\"b",
        "\\x41",
        "\\",
    ],
)
def test_every_name_that_python_writes_is_read_back(name):
    """Whatever quotes and escapes `str` chooses for it, in the place where it stands."""
    records = [
        {"bbox_2d": [1, 2, 30, 40], "label": name},
        {"bbox_2d": [5, 6, 70, 80], "label": "b"},
    ]
    text = str(records)
    parsed = read(text)
    assert [record.desc for record in parsed.objects] == [name, "b"]
    assert [text[item.start : item.end] for item in parsed.objects] == [str(one) for one in records]


def test_every_cut_of_a_list_keeps_the_records_before_it():
    """Wherever the text ends, closed records stay and the one that is cut is truncated."""
    text = f"```json\n[\n\t{G},\n\t{H}\n]\n```"
    for end in range(text.index(H) + 1, text.index(H) + len(H)):
        parsed = read(text[:end])
        assert kept(parsed) == [CAT]
        assert [record.reason for record in parsed.drops] == ["truncated_record"]


def test_pixels_have_no_upper_limit_and_thousandths_do():
    """The same text is valid pixels of Qwen2.5-VL and out of range for Qwen3-VL."""
    text = f"[{rec('cat', (0, 0, 1500, 1200))}]"
    assert read(text, "qwen25vl").objects_valid == 1
    assert read(text, "qwen3vl").dropped_by_reason == {"coord_out_of_range": 1}


def test_field_order_is_enforced_where_it_is_asked_for():
    """`key_order` comes after all other reasons."""
    dialect = dialect_named("qwen3vl", field_order="desc_first", enforce_field_order=True)
    assert read(f"[{G}]", dialect).dropped_by_reason == {"key_order": 1}
    assert read('[{"label": "cat", "bbox_2d": [1, 2, 3, 4]}]', dialect).objects_valid == 1


# Dialects of a user's own.


def own(**keys):
    return declared(keys, where="mine.toml", name="mine")


def test_a_declared_dialect_reads_its_own_keys():
    """List key, names, ignored keys, order of corners and grid are all as declared."""
    dialect = own(
        list="detections",
        name_keys=["class", "kind"],
        box_key="box",
        ignore=["score"],
        coordinates="bins",
        bins=1024,
        corners="yxyx",
    )
    text = '{"detections": [{"class": "cat", "box": [10, 20, 30, 1023], "score": 0.5}]}'
    parsed = read(text, dialect)
    assert parsed.conforming
    assert kept(parsed) == [("cat", (20, 10, 1023, 30))]
    assert read(text.replace("1023", "1024"), dialect).dropped_by_reason == {
        "coord_out_of_range": 1
    }
    extra = text.replace('"score"', '"colour"')
    assert read(extra, dialect).drops[0].detail == "colour"


@pytest.mark.parametrize("before", ["{", "For {all} of it: "])
def test_braces_before_the_object_are_text_before(before):
    """A brace too many, or one in prose, is no key beside the list."""
    dialect = own(list="found", name_key="n", box_key="b", coordinates="bins", bins=100)
    parsed = read(before + '{"found": [{"n": "cat", "b": [1, 2, 30, 40]}]}', dialect)
    assert set(parsed.issues) == {"text_before"}
    assert kept(parsed) == [CAT]


def test_records_behind_a_broken_list_are_found():
    """Words between the list's `]` and further records are no end of the object around them."""
    dialect = own(list="found", name_key="label", box_key="bbox_2d", coordinates="pixels")
    parsed = read(f'{{"found": [{G}] and {H}]}}', dialect)
    assert set(parsed.issues) == {"stray_value"}
    assert kept(parsed) == [CAT, DOG]


def test_fractions_are_kept_as_millionths():
    """Digits beyond the sixth are rounded, 1 is the end of the image, and beyond it is no place."""
    dialect = own(name_key="label", box_key="bbox", coordinates="fraction")
    text = '[{"label": "cat", "bbox": [0, 0.25, 0.12345678, 1.0]}]'
    assert kept(read(text, dialect)) == [("cat", (0, 250_000, 123_457, 1_000_000))]
    assert read(text.replace("1.0", "1.01"), dialect).dropped_by_reason == {"coord_out_of_range": 1}


def test_small_fractions_are_read_as_python_writes_them():
    """`json.dumps(0.00005)` is `5e-05`; whole numbers have no such form."""
    fractions = own(name_key="label", box_key="bbox_2d", coordinates="fraction")
    text = '[{"label": "a", "bbox_2d": [5e-05, 1E-6, 2.5e-1, 1e0]}]'
    assert kept(read(text, fractions)) == [("a", (50, 1, 250_000, 1_000_000))]
    assert read(text, "qwen3vl").drops[0].evidence == "5e-05"
    assert read(text.replace("1e0", "1e99"), fractions).drops[0].reason == "coord_out_of_range"


def test_keys_of_any_script_are_written_as_they_are_declared():
    """A key is no escape sequence in the text, so that a record is known by it wherever it stands."""
    dialect = own(list="物", name_key="名", box_key="盒", coordinates="bins", max_value=1000)
    text = render_text([("猫", "bbox_2d", (1, 2, 3, 4))], dialect)
    assert text == '{"物": [{"名": "猫", "盒": [1, 2, 3, 4]}]}'
    assert kept(read(f"Sure: {text[6:-2]}", dialect)) == [("猫", (1, 2, 3, 4))]


def test_corner_and_size_are_read_as_two_corners():
    """With `xywh` the sides are added; a side of 0 is degenerate."""
    dialect = own(name_key="label", box_key="bbox", coordinates="pixels", corners="xywh")
    assert kept(read('[{"label": "a", "bbox": [10, 20, 5, 6]}]', dialect)) == [
        ("a", (10, 20, 15, 26))
    ]
    dropped = read('[{"label": "a", "bbox": [10, 20, 0, 6]}]', dialect)
    assert dropped.dropped_by_reason == {"degenerate_box": 1}


def test_several_boxes_of_one_record_are_objects_of_their_own():
    """A broken one among them costs only itself."""
    dialect = own(
        name_key="object", box_key="bboxes", several=True, coordinates="bins", max_value=1000
    )
    text = '[{"object": "cat", "bboxes": [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10]]}]'
    parsed = read(text, dialect)
    assert kept(parsed) == [("cat", (1, 2, 3, 4)), ("cat", (7, 8, 9, 10))]
    assert parsed.dropped_by_reason == {"wrong_arity": 1}


def test_points_of_a_polygon_may_stand_in_pairs():
    """`[[x, y], ...]` and `[x, y, ...]` are the same polygon."""
    dialect = own(name_key="label", poly_key="points", coordinates="pixels")
    for written in ("[[1, 1], [9, 1], [9, 9]]", "[1, 1, 9, 1, 9, 9]"):
        parsed = read(f'[{{"label": "a", "points": {written}}}]', dialect)
        assert kept(parsed) == [("a", (1, 1, 9, 1, 9, 9))]
        assert parsed.objects[0].kind == "poly"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"coordinats": "bins"}, "did you mean 'coordinates'"),
        ({}, "'coordinates' is missing"),
        ({"coordinates": "bins"}, "needs bins = N"),
        ({"coordinates": "inches"}, "use one of bins, pixels, fraction"),
        ({"coordinates": "bins", "bins": True}, "whole number"),
        ({"coordinates": "pixels", "bins": 10}, "are for coordinates = 'bins'"),
        ({"coordinates": "bins", "bins": 10, "max_value": 9}, "not both"),
        ({"coordinates": "pixels", "name_key": "a", "name_keys": ["b"]}, "not both"),
        ({"coordinates": "pixels", "name_key": "a", "ignore": ["a"]}, "two meanings"),
        ({"coordinates": "pixels", "corners": "xxyy"}, "xyxy, yxyx, xywh"),
        ({"coordinates": "pixels", "frame": "metres"}, "unknown coordinate frame"),
        ({"coordinates": "pixels", "name": 3}, "must be a string"),
        ({"like": "coordjson"}, "use one of qwen25vl"),
        ({"like": "paligemma", "name_key": "a"}, "is for JSON"),
        ({"like": "paligemma", "field_order": "desc_first"}, "has only geometry_first"),
        ({"like": "cogvlm", "enforce_field_order": True}, "only one order"),
        ({"like": "florence2", "coordinates": "fraction"}, "writes whole numbers"),
        ({"coordinates": "fraction", "frame": "pixels"}, "'frame' cannot be given"),
        ({"coordinates": "pixels", "frame": "unit-1000"}, "is for coordinates = 'bins'"),
        ({"coordinates": "bins", "bins": 9, "frame": "pixels"}, "is for coordinates = 'pixels'"),
        ({"coordinates": "bins", "bins": 1024, "frame": "unit-1000"}, "numbers of 0..1023"),
        ({"like": "paligemma", "frame": "unit-1000"}, "numbers of 0..1023"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(keys, says):
    """One line that names the file and the key."""
    with pytest.raises(ConfigError, match=r"mine\.toml") as caught:
        own(**keys)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_says_how_far_its_numbers_go():
    """`unit-N` alone takes 0..N; frames without an end keep the grid of 1000 bins."""
    assert own(coordinates="bins", frame="unit-1024").largest == 1024
    assert own(coordinates="bins", frame="unit-100").largest == 100
    assert own(coordinates="bins", frame="square-1000").largest == 999
    assert own(coordinates="bins", max_value=1000, frame="square-1000").largest == 1000
    assert own(coordinates="pixels", frame="resized-28:3136:12845056").largest is None
    assert own(like="qwen2.5-vl", max_value=100).coordinates == "bin_int"


def test_what_is_out_of_range_is_shown_as_it_was_written():
    """A fraction is kept as millionths, and its evidence is still a fraction."""
    (drop,) = read(
        '[{"label": "a", "bbox_2d": [0, 0, 1.25, 1]}]', own(coordinates="fraction")
    ).drops
    assert (drop.reason, drop.evidence, drop.slot) == ("coord_out_of_range", "1.25", 2)


def test_a_declared_dialect_survives_its_file(tmp_path):
    """What a run stores of it reads the same, without the file."""
    from coordeval.parsers.dialects import dialect_from_json

    path = tmp_path / "mine.toml"
    path.write_text('like = "qwen3vl"\nname_keys = ["name_en"]\nignore = ["name_zh"]\n')
    dialect = dialect_named(str(path))
    stored = json.loads(json.dumps(dialect.to_json()))
    assert dialect_from_json(stored) == dialect
    assert replace(dialect, name="x") != dialect


@pytest.mark.parametrize("content", [b"\xff", b"[[", b"a = " + b"[" * 5000, b"x" * 70_000])
def test_files_that_are_no_declaration_are_refused(tmp_path, content):
    """Bad bytes, bad TOML, deep nesting and huge files are faults of the user, told in one line."""
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        dialect_named(str(path))
    with pytest.raises(ConfigError, match="absent"):
        dialect_named(str(tmp_path / "absent.toml"))
