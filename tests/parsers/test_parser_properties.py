"""What holds for every text: never raises, reconciles, round trips, spares the neighbours."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from texts import FRAGMENTS, G, H, record, wrap

from coordeval.data.canonical import render_text
from coordeval.parsers import DIALECTS, dialect_named, parse
from coordeval.parsers.reasons import DROP_REASONS, ISSUES

DATA = os.environ.get("COORDEVAL_DATA")

soup = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=40).map("".join)
dialects = st.sampled_from(
    [*DIALECTS.values(), dialect_named("coordjson", enforce_field_order=True)]
)
bins = st.integers(0, 999)
descriptions = st.text(min_size=1, max_size=12).filter(
    lambda d: d.strip() and not re.search("[\ud800-\udfff]", d)
)


@st.composite
def geometries(draw):
    kind = draw(st.sampled_from(["bbox_2d", "poly", "line"]))
    if kind == "bbox_2d":
        x1, y1 = draw(st.integers(0, 998)), draw(st.integers(0, 998))
        return kind, (x1, y1, draw(st.integers(x1 + 1, 999)), draw(st.integers(y1 + 1, 999)))
    if kind == "line":
        return kind, tuple(
            draw(st.lists(st.tuples(bins, bins), min_size=2, max_size=5).map(lambda p: sum(p, ())))
        )
    x, y = draw(st.integers(0, 900)), draw(st.integers(0, 900))
    return kind, (x, y, x + draw(st.integers(1, 99)), y, x, y + draw(st.integers(1, 99)))


objects = st.lists(st.tuples(descriptions, geometries()), max_size=6)


def assert_sound(text, parsed):
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    assert set(parsed.dropped_by_reason) <= set(DROP_REASONS)
    assert set(parsed.issues) <= set(ISSUES)
    assert all(count > 0 for count in parsed.issues.values())
    for found in parsed.records:
        assert 0 <= found.start < found.end <= len(text)
        assert text[found.start] == "{"
        if found.reason is None:
            assert found.desc.strip() and found.values and found.kind
            assert text[found.end - 1] == "}"
    ends = sorted((found.start, found.end) for found in parsed.records)
    assert all(a[1] <= b[0] for a, b in zip(ends, ends[1:], strict=False)), "records overlap"


@given(soup, dialects)
@settings(max_examples=1500, deadline=None)
@example('{"objects": [{"desc": "\\', DIALECTS["coordjson"])
def test_any_text_is_read_without_raising_and_reconciles(text, dialect):
    """No text raises; found = valid + dropped; spans are records; names are known."""
    assert_sound(text, parse(text, dialect))


@given(objects, dialects)
@settings(max_examples=300, deadline=None)
def test_what_the_writer_writes_the_parser_reads_back(items, dialect):
    """Writer and parser are inverse in every dialect, and the text is conforming."""
    text = render_text([(desc, kind, values) for desc, (kind, values) in items], dialect)
    parsed = parse(text, dialect)
    assert [(o.desc, o.kind, o.values) for o in parsed.objects] == [
        (d, k, v) for d, (k, v) in items
    ]
    assert parsed.conforming
    assert "nonstandard_spacing" not in parsed.issues
    spans = [text[o.start : o.end] for o in parsed.objects]
    assert all(span[0] == "{" and span[-1] == "}" for span in spans)


@pytest.mark.parametrize("geometry_first", [False, True])
def test_no_single_edit_of_a_record_costs_a_neighbour(geometry_first):
    """Every deletion, insertion or replacement inside the middle of three records spares the others."""

    def write(desc, values):
        plain = record(desc, values)
        if not geometry_first:
            return plain
        desc_part, _, geometry = plain[1:-1].partition(', "bbox_2d"')
        return '{"bbox_2d"' + geometry + ", " + desc_part + "}"

    first, middle, last = (
        write("cat", (1, 2, 3, 4)),
        write("blue dog", (15, 26, 307, 408)),
        write("owl", (9, 10, 11, 12)),
    )
    inserts = ['"', "{", "}", "[", "]", ",", ":", "\\", "第", "5", "\n", "<|coord_7|>", "null", " "]
    for at in range(len(middle) + 1):
        edits = [middle[:at] + new + middle[at:] for new in inserts]
        if at < len(middle):
            edits += [middle[:at] + new + middle[at + 1 :] for new in ["", *inserts]]
        for edited in edits:
            text = wrap(first, edited, last)
            parsed = parse(text)
            assert_sound(text, parsed)
            kept = [(o.desc, o.values) for o in parsed.objects]
            assert kept[:1] == [("cat", (1, 2, 3, 4))], text
            assert kept[-1:] == [("owl", (9, 10, 11, 12))], text


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_json_torture_files_never_raise_and_reconcile(dialect):
    """JSONTestSuite: every file, alone, inside a record and among records."""
    files = sorted(Path(DATA, "json_torture").rglob("*.json"))
    assert len(files) > 300
    for path in files:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        for candidate in (text, wrap(G, text, H), wrap(f'{{"desc": {text}, "bbox_2d": []}}')):
            assert_sound(candidate, parse(candidate, dialect))


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set")
def test_json_torture_valid_values_are_valid_in_a_record():
    """What a JSON parser must accept as a value never makes a record malformed here."""
    for path in sorted(Path(DATA, "json_torture", "test_parsing").glob("y_*.json")):
        value = path.read_bytes().decode("utf-8")
        parsed = parse(wrap(G[:-1] + f', "extra": {value}}}', H))
        assert parsed.dropped_by_reason == {"unexpected_keys": 1}, path.name
        assert parsed.objects_valid == 1


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set")
def test_naughty_strings_survive_as_descriptions():
    """Every naughty string round trips as a description, and none raises as a raw text."""
    strings = json.loads(Path(DATA, "blns", "blns.json").read_text(encoding="utf-8"))
    assert len(strings) > 500
    for string in strings:
        assert_sound(string, parse(string))
        text = wrap('{"desc": ' + json.dumps(string) + ', "bbox_2d": ' + G.split(": ")[2], H)
        parsed = parse(text)
        expected = 2 if string.strip() else 1
        assert parsed.objects_valid == expected, string
        if string.strip():
            assert parsed.objects[0].desc == string


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set")
def test_real_outputs_of_other_models_never_raise():
    """Raw outputs of other models' notebooks and captions are read without raising."""
    for name in ("notebook_outputs.jsonl", "cogvlm_coco_val2017_captions.jsonl"):
        for line in Path(DATA, "raw_vlm", name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = row.get("cell_output") or row.get("raw")
            for dialect in DIALECTS:
                assert_sound(text, parse(text, dialect))
