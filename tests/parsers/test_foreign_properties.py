"""Every dialect of others: round trips, any text at all, neighbours, and growth."""

import sys
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordeval.data.canonical import render_text
from coordeval.errors import ConfigError
from coordeval.parsers import parse
from coordeval.parsers.declared import declared
from coordeval.parsers.dialects import FOREIGN_DIALECTS

OWN = {
    "object around the list": declared(
        {"list": "found", "name_key": "n", "box_key": "b", "coordinates": "bins", "bins": 500},
        where="t",
        name="own-1",
    ),
    "fractions, y first": declared(
        {"name_key": "n", "box_key": "b", "coordinates": "fraction", "corners": "yxyx"},
        where="t",
        name="own-2",
    ),
    "corner and size": declared(
        {"name_key": "n", "box_key": "b", "coordinates": "pixels", "corners": "xywh"},
        where="t",
        name="own-3",
    ),
}
DIALECTS = {**FOREIGN_DIALECTS, **OWN}
PIECES = [
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<12>", "<99>"),
    *("<loc0012>", "<loc1023>", "<loc", "<seg001>", "<loc_5>", "<loc_500>", "<poly>", "</poly>"),
    *("[[", "]]", "[", "]", "{", "}", "001,002,030,040", ";", ",", ":", " ", "\n", "cat", "the "),
    *('"bbox_2d"', '"label"', "'bbox_2d'", "'label'", '"b"', '"n"', '"found"', '"', "'", "\\"),
    *(
        "[1, 2, 3, 4]",
        "[0.5]",
        "12",
        "None",
        "null",
        "</s>",
        "<eos>",
        "<|im_end|>",
        "```json",
        "```",
    ),
    *("\x00", "\ud800", "\u2028", "é", "9" * 30),
]
soup = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=120)
@given(text=st.one_of(soup, st.text(max_size=60)))
@example(text="[{'label': 'a', \"bbox_2d\": [")
@example(text="[[\\[[")
def test_no_text_raises_and_the_counts_reconcile(name, text):
    """Whatever is written: found is valid plus dropped, and spans are ordered places in the text."""
    parsed = parse(text, DIALECTS[name])
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    spans = [(record.start, record.end) for record in parsed.records]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:], strict=False))


def boxes(largest):
    side = st.integers(0, largest)
    corners = st.tuples(side, side, side, side)
    return corners.map(
        lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
    ).filter(lambda c: c[0] < c[2] and c[1] < c[3])


names = st.one_of(
    st.sampled_from(
        ["cat", "red car", "第九", "it's", 'a "b"', "x;y", "the big dog", "a\nb", "<s>"]
    ),
    st.text(min_size=1, max_size=12),
)


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=80)
@given(data=st.data())
def test_what_is_written_is_read_back(name, data):
    """Names and numbers round trip, in order; a name that the syntax cannot hold is refused."""
    dialect = DIALECTS[name]
    largest = dialect.largest or 5000
    described = data.draw(st.lists(st.tuples(names, boxes(largest)), min_size=1, max_size=5))
    records = [(desc, "bbox_2d", box) for desc, box in described]
    try:
        text = render_text(records, dialect)
    except ConfigError:
        with pytest.raises(ConfigError, match="cannot write the name"):
            render_text(records, dialect)
        return
    parsed = parse(text, dialect)
    assert parsed.conforming
    assert [(item.desc, item.kind, item.values) for item in parsed.objects] == records


@pytest.mark.parametrize("name", DIALECTS)
def test_ordinary_names_can_be_written(name):
    """The refusal of names is for those that the syntax cannot hold, not for class names."""
    for desc in ("cat", "traffic light", "dining table", "第九", "T-shirt"):
        text = render_text([(desc, "bbox_2d", (1, 2, 3, 4))] * 2, DIALECTS[name])
        assert [item.desc for item in parse(text, DIALECTS[name]).objects] == [desc, desc]


def test_no_objects_are_an_empty_list_or_an_empty_text():
    """JSON has a list to leave empty; the others write nothing, which counts as empty output."""
    for dialect in DIALECTS.values():
        text = render_text([], dialect)
        parsed = parse(text, dialect)
        assert parsed.objects_found == 0
        assert parsed.conforming == (dialect.family == "json")
        assert set(parsed.issues) == (set() if dialect.family == "json" else {"empty_output"})


def test_geometries_without_a_form_are_refused():
    """A polygon is not silently made a box; the message says what to do."""
    triangle = [("a", "poly", (1, 1, 9, 1, 9, 9))]
    for name in ("qwen25vl", "qwen3vl", "paligemma", "cogvlm"):
        with pytest.raises(ConfigError, match="no form for poly"):
            render_text(triangle, FOREIGN_DIALECTS[name])
    for name in ("rex-omni", "florence2"):
        dialect = FOREIGN_DIALECTS[name]
        (record,) = parse(render_text(triangle, dialect), dialect).objects
        assert (record.kind, record.values) == ("poly", (1, 1, 9, 1, 9, 9))


@pytest.mark.parametrize("name", [name for name in DIALECTS if DIALECTS[name].family == "json"])
def test_one_edit_of_a_json_record_never_costs_its_neighbours(name):
    """Every deletion and many insertions inside the middle one of three records."""
    dialect = DIALECTS[name]
    records = [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8)), ("owl", (9, 10, 11, 12))]
    text = render_text([(desc, "bbox_2d", box) for desc, box in records], dialect)
    middle = parse(text, dialect).records[1]
    inserted = [*'{}[]",:x1\\', "'", "<|im_end|>", "第"]
    for place in range(middle.start + 1, middle.end - 1):
        edits = [text[:place] + text[place + 1 :]]
        edits += [text[:place] + piece + text[place:] for piece in inserted]
        for edited in edits:
            parsed = parse(edited, dialect)
            assert parsed.objects_found == len(parsed.objects) + sum(
                parsed.dropped_by_reason.values()
            )
            found = [(item.desc, item.values) for item in parsed.objects]
            assert found[:1] == records[:1], edited
            assert found[-1:] == records[-1:], edited


@pytest.mark.parametrize("name", ["rex-omni", "paligemma", "florence2", "cogvlm"])
def test_one_edit_of_a_box_never_costs_the_others(name):
    """Every deletion inside the numbers of the middle one of three phrases."""
    dialect = FOREIGN_DIALECTS[name]
    records = [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8)), ("owl", (9, 10, 11, 12))]
    text = render_text([(desc, "bbox_2d", box) for desc, box in records], dialect)
    middle = parse(text, dialect).records[1]
    numbers = [k for k in range(middle.start, middle.end) if text[k].isdigit()]
    for place in range(numbers[0], numbers[-1] + 1):
        parsed = parse(text[:place] + text[place + 1 :], dialect)
        found = [(item.desc, item.values) for item in parsed.objects]
        assert found[:1] == records[:1]
        assert found[-1:] == records[-1:]


HOSTILE = {
    "json": [
        "[",
        "{",
        "[{",
        '{"',
        '[{"label": "',
        "[{'label': '",
        '[{"bbox_2d": [',
        "{{",
        "'\\",
        "\\",
    ],
    "rex-omni": ["<|object_ref_start|>", "<|box_start|>", "<|box_start|><1>,", "<", "<|box_end|>,"],
    "paligemma": ["<loc0001>", "<loc", ";", "<loc0001>a", "<eos>", "<eos> ", " "],
    "florence2": ["<loc_1>", "<loc_", "a<loc_1>", "<poly>", "</s>", "a<poly><loc_1>"],
    "cogvlm": ["[[", "[[1", "[[1,2,3,4]]", "the ", ". ", "[[1;", "a [[", "</s>"],
}


def _calls(text, dialect):
    """How many calls, of Python's and of C's functions, a text takes."""
    seen = 0

    def count(frame, event, arg):
        nonlocal seen
        seen += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        parse(text, dialect)
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("name", FOREIGN_DIALECTS)
def test_work_grows_with_the_length_and_not_with_its_square(name):
    """Repeats of every opening: 8 x the text takes some 8 x the calls, not 64 x."""
    dialect = FOREIGN_DIALECTS[name]
    whole = render_text([("cat", "bbox_2d", (1, 2, 3, 4))] * 4, dialect)
    for piece in (*HOSTILE[dialect.family], whole, whole[: len(whole) // 2], "x"):
        short, long = (
            _calls((piece * (size // len(piece) + 1))[:size], dialect) for size in (2_000, 16_000)
        )
        assert long < 12 * max(short, 200), (piece, short, long)


def test_values_of_a_dialect_without_a_limit_are_capped_not_lost():
    """Numbers of any length neither raise nor grow: pixels are stored up to a billion."""
    text = f'[{{"bbox_2d": [0, 0, {"9" * 5000}, 1], "label": "a"}}]'
    (record,) = parse(text, "qwen25vl").objects
    assert record.values == (0, 0, 10**9, 1)
    own = replace(OWN["corner and size"])
    assert parse(text.replace("bbox_2d", "b").replace("label", "n"), own).objects_found == 1
