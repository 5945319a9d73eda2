"""Shortcuts of the parser only save time: every text is judged as it is field by field."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from texts import FRAGMENTS, G, H, coords, record, wrap

from coordeval.data.canonical import render_text
from coordeval.parsers import DIALECTS, dialect_named, json_record, parse
from coordeval.parsers.canonical import find_runs
from coordeval.parsers.container import parse_careful
from coordeval.parsers.fast import parse_fast

COORDJSON = DIALECTS["coordjson"]
FIXTURES = Path(__file__).parents[2] / "fixtures"
ENFORCED = [
    dialect_named(name, field_order=order, enforce_field_order=True)
    for name in ("coordjson", "object-map-bare")
    for order in ("desc_first", "geometry_first")
]
dialects = st.sampled_from([*DIALECTS.values(), *ENFORCED])
fragments = st.sampled_from(FRAGMENTS) | st.text(max_size=3)

DAMAGE = {
    "none": lambda text: text,
    "foreign token": lambda text: text.replace("<|coord_", "第九, <|coord_", 1),
    "several foreign": lambda text: text.replace("[", "[a, b c, ", 1),
    "digits": lambda text: re.sub(r"<\|coord_(\d+)\|>", r"\1", text, count=1),
    "quoted": lambda text: re.sub(r"(<\|coord_\d+\|>)", r'"\1"', text),
    "string with a comma": lambda text: text.replace("[", '["a, b", ', 1),
    "other key": lambda text: text.replace("bbox_2d", "bbox_3d"),
    "long other key": lambda text: text.replace("bbox_2d", "bbox_2d" + "x" * 30),
    "escaped key": lambda text: text.replace("bbox_2d", "bbox\\u005f2d"),
    "beyond the grid": lambda text: re.sub(r"coord_\d+", "coord_1000", text, count=1),
    "leading zero": lambda text: text.replace("coord_", "coord_0", 1),
    "very long number": lambda text: text.replace("coord_", "coord_1" + "0" * 5000, 1),
    "long number": lambda text: text.replace("coord_", "coord_12345678901", 1),
    "escapes": lambda text: text.replace('"desc": "', '"desc": "\\"\\u732b\\ud83d', 1),
    "bad escape": lambda text: text.replace('"desc": "', '"desc": "\\x', 1),
    "lone surrogate": lambda text: text.replace('"desc": "', '"desc": "\ud800', 1),
    "control character": lambda text: text.replace('"desc": "', '"desc": "\x01', 1),
    "blank desc": lambda text: re.sub(r'"desc": "[^"]*"', '"desc": " "', text),
    "token in desc": lambda text: text.replace('"desc": "', '"desc": "<|coord_7|>', 1),
    "desc is no string": lambda text: re.sub(r'"desc": "[^"]*"', '"desc": 5', text),
    "no desc": lambda text: re.sub(r'"desc": "[^"]*", ', "", text),
    "desc twice": lambda text: text.replace('"desc"', '"desc": "a", "desc"', 1),
    "extra list": lambda text: text.replace('"desc"', '"x": [1, "\\"", 2], "desc"', 1),
    "extra list with an escape": lambda text: text.replace(
        '"desc"', r'"x": ["a\", "b"], "desc"', 1
    ),
    "extra number": lambda text: text.replace('"desc"', '"score": 0.5, "desc"', 1),
    "extra map": lambda text: text.replace('"desc"', '"x": {"desc": "a"}, "desc"', 1),
    "two geometries": lambda text: text.replace("]}", '], "line": []}', 1),
    "geometry is no list": lambda text: re.sub(r"\[[^\]]*\]", '"none"', text),
    "nested": lambda text: text.replace("[", "[["),
    "no closing bracket": lambda text: text.replace("]", ""),
    "no closing brace": lambda text: text.replace("}", ""),
    "no comma": lambda text: text.replace('", ', '" ', 1),
    "no colon": lambda text: text.replace('": [', '" [', 1),
    "unclosed desc": lambda text: re.sub(r'("desc": "[^"]*)"', r"\1", text),
    "unclosed key": lambda text: text.replace('_2d"', "_2d"),
    "trailing comma in list": lambda text: text.replace("]", ", ]"),
    "trailing comma in record": lambda text: text.replace("}", ", }"),
    "no comma in list": lambda text: text.replace(">, <", "> <", 1),
    "no spaces": lambda text: text.replace(" ", ""),
    "line breaks": lambda text: text.replace(" ", "\n"),
    "space before colon": lambda text: text.replace('": ', '" :'),
    "space in list": lambda text: text.replace("[", "[ ").replace("]", " ]"),
    "unusual space in list": lambda text: text.replace(", <", ",\u00a0<"),
    "cut": lambda text: text[: len(text) * 2 // 3],
}


@st.composite
def written_records(draw):
    """One record in the canonical form, of any geometry and order of fields."""
    key = draw(st.sampled_from(["bbox_2d", "bbox_2d", "poly", "line"]))
    count = 4 if key == "bbox_2d" else draw(st.sampled_from([4, 6, 8]))
    values = draw(st.lists(st.integers(0, 999), min_size=count, max_size=count))
    desc = draw(st.sampled_from(["cat", "dining table", "猫", "a {b} [c]"]))
    text = record(desc, values, key)
    if draw(st.integers(0, 4)) == 0:
        text = f'{{"{key}": {coords(values)}, "desc": "{desc}"}}'
    return text


@st.composite
def damaged_texts(draw):
    """Records of which some are damaged, in a list, a map, a bare list, or in nothing."""
    kinds = st.sampled_from(list(DAMAGE.values()))
    written = draw(st.lists(written_records(), min_size=1, max_size=6))
    records = [draw(kinds)(text) if draw(st.booleans()) else text for text in written]
    shape = draw(st.sampled_from(["list", "list", "list", "map", "bare list", "bare", "lines"]))
    if shape == "map":
        first = draw(st.integers(0, 12))
        items = [f'"object_{abs(first - i)}": {text}' for i, text in enumerate(records)]
        text = "{" + ", ".join(items) + "}"
    else:
        joined = ("\n" if shape == "lines" else ", ").join(records)
        around = {"list": ('{"objects": [', "]}"), "bare list": ("[", "]")}.get(shape, ("", ""))
        text = joined.join(around)
    if draw(st.integers(0, 3)) == 0:
        text = re.sub(r"<\|coord_(\d+)\|>", draw(st.sampled_from([r"\1", r'"<|coord_\1|>"'])), text)
    return text


@st.composite
def edited_texts(draw):
    """Damaged texts with pieces cut out of them, put into them, or their end cut off."""
    text = draw(damaged_texts())
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.sampled_from([0, 0, 1, 5, 40]))
        text = text[:start] + draw(fragments) + text[stop:]
    return text[: draw(st.sampled_from([None, None, draw(st.integers(0, len(text)))]))]


def said(parsed):
    return parsed.records, parsed.issues, parsed.objects


def assert_same(text, dialect):
    assert said(parse(text, dialect)) == said(parse_careful(text, dialect))


@given(edited_texts(), dialects)
@settings(max_examples=700, deadline=None)
@example('{"objects": [{"desc": "a", "bbox_2d": ["<|coord_1|>"x]}, {":": 5', COORDJSON)
def test_shortcuts_change_nothing_on_damaged_texts(text, dialect):
    """With and without shortcuts: the same records, drops, spans and issues, whatever the damage."""
    assert_same(text, dialect)


@given(st.lists(fragments, max_size=40).map("".join), dialects)
@settings(max_examples=500, deadline=None)
def test_shortcuts_change_nothing_on_any_text(text, dialect):
    """The same for any text, alone, among records and inside one."""
    for candidate in (text, wrap(G, text, H), wrap(record(text)), '{"objects": [' + text + "]}"):
        assert_same(candidate, dialect)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", DIALECTS)
def test_shortcuts_change_nothing_whatever_the_one_damage(damage, name):
    """Each kind of damage, in one record and in all, of boxes and polygons, in every dialect."""
    dialect = DIALECTS[name]
    box, odd = (("cat", "bbox_2d", (1, 2, 30, 40)), ("a b", "bbox_2d", (5, 5, 4, 9)))
    polygon = ("dog", "poly", (1, 2, 30, 4, 5, 60))
    text = render_text([box, polygon, box, odd, box], dialect)
    at = text.index('{"desc"', 40)
    middle = text[:at] + re.sub(r"\{.*?\}", lambda found: damage(found[0]), text[at:], count=1)
    for candidate in (text, middle, damage(text), text.replace("}, ", "}")):
        assert_same(candidate, dialect)


def test_shortcuts_change_nothing_wherever_a_text_ends():
    """A text cut at any place, also inside a token or an escape, is read the same."""
    text = wrap(record('a\\"b'), G, record(key="poly"), record(values=(5, 5, 5, 9)))
    older = render_text([("cat", "bbox_2d", (1, 2, 3, 4))] * 3, DIALECTS["object-map-bare"])
    for end in range(len(text)):
        assert_same(text[:end], COORDJSON)
    for end in range(len(older)):
        assert_same(older[:end], DIALECTS["object-map-bare"])


ODD = {
    "map with a record without a key": f'{{"object_1": {G}, {H}, "object_3": {G}}}',
    "map amid other keys": f'{{"object_5": {G}, "n": 1, "object_2": {H}, "object_1": {G}}}',
    "map behind another key": f'{{"n": 1, "object_2": {G}, "object_1": {H}}}',
    "map with unusual digits": f'{{"object_1": {G}, "object_٣": {H}, "object_2": {G}}}',
    "record in a string": wrap(G, '"' + H.replace('"', "'") + '"', H),
    "record in a record": wrap(G, f'{{"desc": {H}, "bbox_2d": [{G}]}}', H),
    "record begun in a desc": wrap(record('{"desc": "a', (1, 2, 3, 4)), G, H),
    "string that closes no list": '{"objects": [{"desc": "a", "bbox_2d": ["<|coord_1|>"x]}, {":": 5',
    "list cut behind a record": wrap(G, H)[:-2],
    "containers": wrap(G) + wrap(H, G),
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("name", DIALECTS)
def test_shortcuts_change_nothing_on_odd_neighbours(text, name):
    """Records in strings, in each other, without their keys: the walk decides what is read."""
    assert_same(text, DIALECTS[name])


@pytest.mark.parametrize("path", sorted((FIXTURES / "dumps").glob("*.jsonl")), ids=lambda p: p.stem)
def test_shortcuts_change_nothing_on_recorded_failures(path):
    """Every fixture dump, as it stands and cut, in the dialects that could be meant."""
    rng = random.Random(0)
    for line in path.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        for candidate in (text, text[: rng.randrange(len(text) + 1)]):
            for name in ("coordjson", "object-map-bare", "object-map"):
                assert_same(candidate, DIALECTS[name])


@pytest.mark.parametrize(
    "text",
    [
        wrap(),
        wrap(G, H),
        wrap(G, record(values=(5, 5, 5, 9))),
        wrap(record("猫"), record('say \\"hi\\"'), G),
        wrap(G, record(values=(1, 2, 3, 4, 5, 9), key="poly"), record(key="line")),
        wrap(G, record(values=(1, 2, 3, 4, 5, 9, 7), key="poly")),
        wrap(G, G.replace("<|coord_2|>", "第九"), H),
        wrap(G, G.replace("bbox_2d", "bbox_3d"), H),
        wrap(G, G.replace("<|coord_2|>, ", ""), record(" "), record("<|coord_7|>")),
    ],
)
def test_one_run_of_records_needs_no_walk(text):
    """Records of the usual shape are one run, whatever stands in their lists and descriptions."""
    assert parse_fast(text, COORDJSON, find_runs(text, COORDJSON)) is not None


@pytest.mark.parametrize("name", DIALECTS)
def test_records_around_a_broken_one_stand_in_two_runs(name):
    """A broken record, or a text that ends inside one, leaves all others on the short way."""
    dialect = DIALECTS[name]
    text = render_text([("cat", "bbox_2d", (1, 2, 30, 40))] * 21, dialect)
    at = text.index('"desc"', len(text) // 2)
    broken = text[:at] + '"desc" ' + text[at:]
    assert [stop - first for first, stop, _ in find_runs(broken, dialect).by_start.values()] in (
        [10, 10],
        [9, 11],
        [11, 9],
    )
    [(first, stop, _)] = find_runs(text[:-5], dialect).by_start.values()
    assert (first, stop) == (0, 20)


@st.composite
def json_texts(draw):
    """Records as Qwen-VL models write them: in either order, spaced anyhow, some of them odd."""
    numbers = st.integers(0, 1200).map(str) | st.sampled_from(["007", "1.5", "x", "9" * 12])
    lists = st.just(["1", "2", "30", "40"]) | st.lists(numbers, min_size=3, max_size=6)
    records = []
    for _ in range(draw(st.integers(0, 4))):
        comma = draw(st.sampled_from([", ", ",", " ,\n", " "]))
        key = draw(st.sampled_from(["bbox_2d", "bbox_2d", "box", "poly"]))
        box = f'"{key}": [{comma.join(draw(lists))}]'
        desc = draw(st.sampled_from(["cat", "a b", " ", '\\"x', "\\ud83d", "\\x", "猫"]))
        fields = [box, f'"{draw(st.sampled_from(["label", "text_content", "desc"]))}": "{desc}"']
        fields += draw(st.sampled_from([[], [], [], ['"score": 1'], ['"label": "b"']]))
        records.append("{" + comma.join(draw(st.permutations(fields))) + "}")
    text = "```json\n[\n\t" + ",\n\t".join(records) + "\n]\n```"
    start = draw(st.integers(0, len(text)))
    cut = draw(st.sampled_from([0, 0, 1, 5]))
    return text[:start] + draw(st.just("") | fragments) + text[start + cut :]


@given(json_texts(), st.sampled_from(["qwen25vl", "qwen3vl"]), st.booleans())
@settings(max_examples=250, deadline=None)
def test_other_models_json_is_read_the_same_in_one_match_or_by_fields(text, name, enforced):
    """The shortcut for whole records of other models' JSON changes nothing either."""
    dialect = dialect_named(name, enforce_field_order=enforced)
    shortly = said(parse(text, dialect))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_record, "_read_plain", lambda *_: None)
        assert said(parse(text, dialect)) == shortly
