"""Records told apart in a text that is still being written, whole or broken."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.data.canonical import render_text
from coordeval.decoding import record_stream
from coordeval.decoding.record_stream import RecordStream
from coordeval.parsers import DIALECTS, parse
from coordeval.runs import open_run

LIST, MAP = DIALECTS["coordjson"], DIALECTS["object-map"]
FIXTURES = Path(__file__).parents[2] / "fixtures"
BOX = "[<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]"
SOUND = '{"desc": "dog", "bbox_2d": ' + BOX + "}"


def split_at(raw, cuts):
    """The bytes cut at these places (several cuts at one place give empty pieces)."""
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in pairwise(places)]


def records_of(pieces, dialect=LIST):
    stream = RecordStream(dialect)
    return [record for piece in pieces for record in stream.push(piece)]


def bytewise(text, dialect=LIST):
    raw = text.encode()
    return records_of([raw[k : k + 1] for k in range(len(raw))], dialect)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_records_of_every_dialect_are_those_of_the_parser(name):
    """Canonical text: the same spans, descriptions and values as in the finished text."""
    dialect = DIALECTS[name]
    text = render_text(
        [
            ("Cat", "bbox_2d", (1, 2, 30, 40)),
            ('a "b\\ ]}, {[', "bbox_2d", (5, 6, 70, 80)),
            ("第九 😀", "poly", (1, 1, 9, 1, 9, 9)),
            ("lane", "line", (1, 1, 9, 9)),
        ],
        dialect,
    )
    expected = [(text[r.start : r.end], r.kind, r.values) for r in parse(text, dialect).records]
    found = bytewise(text, dialect)
    assert [(r.text, r.kind, r.values) for r in found] == expected
    assert [r.name for r in found] == ["cat", 'a "b\\ ]}, {[', "第九 😀", "lane"]


@pytest.mark.parametrize(
    "text",
    [
        '{"objects": [%s]}',
        "[%s, %s]",
        "%s",
        'Here:\n```json\n{\n  "objects": [\n    %s ,\n %s\n]}\n```',
        '{"object_1": %s, "object_2": %s}',
        '{"detections": [%s, %s]}',
        '{"scene": {"sky": true}, "objects": [%s, %s]}',
        '{"objects": {"a": 1, "b": %s}}',
        "{%s",
        '"%s',
        '{"objects": [null, 3, "x", %s]}',
        '{"objects": [%s], "count": 1}\n{"objects": [%s]}',
        '{"objects": [{"desc": "a", "bbox_2d": [<|coord_1|>, %s, %s]}',
        '{"objects": [{"desc": "a", "bbox_2d": [<|coord_1|>], %s, %s]}',
        '{"objects": [{"desc": "a", %s, %s]}',
        '{"objects": [{"desc": "a, "bbox_2d": [<|coord_1|>]}, %s, %s]}',
        '{"objects": [{"desc": "a}, %s, %s]}',
        '{"objects": [{"desc": "a\\", "bbox_2d": [<|coord_1|>]}, %s, %s]}',
        '{"objects": [{"desc": "5" wide", "bbox_2d": [<|coord_1|>]}, %s, %s]}',
        '{"objects": [{"name": "a, "box": [<|coord_1|>]}, %s]}',
        '{"objects": [{"desc": "a", "bbox_2d": [[[<|coord_1|>}}}, %s, %s]}',
        '{"objects": [{"desc": "a", "x": {"y": 1, "bbox_2d": [<|coord_1|>]}, %s]}',
        '{"objects": [{{{{%s]}}}}',
        '{"objects": [{"desc": "\\u12", "bbox_2d": []}, %s]}',
    ],
)
def test_what_stands_around_a_record_does_not_hide_it(text):
    """Wrappers, prose, strings never closed, brackets missing: the sound records are found."""
    found = bytewise(text.replace("%s", SOUND))
    assert [r.text for r in found].count(SOUND) == text.count("%s")


@pytest.mark.parametrize(
    ("broken", "read"),
    [
        ('{"desc": "cat, "bbox_2d": [<|coord_1|>]}', None),
        ('{"desc": "cat", "bbox_2d": [第九, <|coord_1|>]}', None),
        ('{"desc": "cat"}', None),
        ('{"desc": "cat", "bbox_3d": [<|coord_1|>, <|coord_2|>]}', ("cat", "bbox_2d", (1, 2))),
        ('{"desc": "cat", "bbox_2d": []}', ("cat", "bbox_2d", ())),
        ('{"bbox_2d": [<|coord_7|>], "desc": " CAT "}', ("cat", "bbox_2d", (7,))),
        ("{}", None),
        ('{"foo": {"bar": {"baz": 1}}}', None),
    ],
)
def test_broken_records_are_records_too(broken, read):
    """They are known by name, kind and values where those can be read, else by their text."""
    text = '{"objects": [' + f"{SOUND}, {broken}, {SOUND}, {broken}, {SOUND}]}}"
    found = [r for r in bytewise(text) if r.text != SOUND]
    assert [r.text for r in found] == [broken, broken]
    assert found[0].identity == found[1].identity
    assert found[0].identity == (broken if read is None else read)


def test_a_record_that_lost_its_end_counts_up_to_the_next_one():
    """Missing `]` and `}` do not make two records one."""
    broken = '{"desc": "cat", "bbox_2d": [<|coord_1|>'
    found = bytewise('{"objects": [' + f"{broken}, {broken}, {SOUND}")
    assert [r.text for r in found] == [broken, broken, SOUND]


def test_drifted_keys_end_a_string_too():
    """`name` and `box` instead of the known keys: the second record is found as well."""
    second = '{"name": "b", "box": [<|coord_1|>]}'
    found = bytewise('{"objects": [{"name": "a, "box": [<|coord_1|>]}, ' + second + "]}")
    assert second in [r.text for r in found]


def test_a_description_may_hold_what_looks_like_records():
    """Escaped quotes, braces and tokens in a string open nothing."""
    desc = 'x {"desc": "y", "bbox_2d": [<|coord_1|>]}, {" \\ { {"'
    text = '{"objects": [' + SOUND.replace('"dog"', json.dumps(desc)) + "]}"
    (record,) = bytewise(text)
    assert record.name == desc


def test_the_token_is_the_one_that_opens_the_record():
    """Also where one token closes a record and opens the next, or holds several whole ones."""
    pieces = [
        '{"objects": [{"',
        'desc": "a',
        '"}, {"desc": "b"',
        '}, {"x": 1}, {"y": 2}',
        "",
        ", {",
    ]
    found = records_of([piece.encode() for piece in [*pieces, "}"]])
    assert [(r.text, r.token) for r in found] == [
        ('{"desc": "a"}', 0),
        ('{"desc": "b"}', 2),
        ('{"x": 1}', 3),
        ('{"y": 2}', 3),
        ("{}", 5),
    ]


def test_pieces_are_the_text_since_the_last_complete_record():
    """One piece per token after the one that completed it, empty ones included."""
    stream = RecordStream(LIST)
    for piece in (b'[{"desc": "a"}, ', b"", b"xyz", b" {"):
        stream.push(piece)
    assert stream.pieces[1:] == [b"", b"xyz", b" {"]


def texts_of_fixtures():
    for path in sorted((FIXTURES / "dumps").glob("*.jsonl")):
        for row in open_run(path).rollouts():
            yield path.stem, row.text


@given(data=st.data())
def test_records_do_not_depend_on_how_the_text_is_cut(data):
    """Any pieces of the same bytes give the same records."""
    texts = [text for _, text in FIXTURE_TEXTS if len(text) < 4000]
    raw = data.draw(st.sampled_from(texts)).encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=60))
    whole = [record[1:] for record in records_of([raw])]
    assert [record[1:] for record in records_of(split_at(raw, cuts))] == whole


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_are_read_without_error(raw, cuts):
    """Bytes that are no UTF-8, cut anywhere."""
    whole = [record[1:] for record in records_of([raw])]
    assert [record[1:] for record in records_of(split_at(raw, cuts))] == whole


@given(
    st.lists(
        st.sampled_from(
            ["{", "}", '"', "\\", "[", "]", ",", ":", '{"desc"', ': "cat"', SOUND, '"objects": [']
        ),
        max_size=40,
    )
)
def test_a_sound_record_after_any_rubbish_is_found(parts):
    """Nothing that came before blinds the reader, except an escape or string that swallows it."""
    found = bytewise("".join(parts) + " , " + SOUND + ", " + SOUND)
    assert found
    assert found[-1].text == SOUND


FIXTURE_TEXTS = list(texts_of_fixtures())


def test_fixture_records_are_those_of_the_parser_wherever_nothing_is_amiss():
    """In texts without drops and issues every record is found, and none besides."""
    checked = 0
    for name, text in FIXTURE_TEXTS:
        dialect = MAP if name == "object-map" else LIST
        parsed = parse(text, dialect)
        if parsed.conforming:
            expected = [text[r.start : r.end] for r in parsed.records]
            found = [r.text for r in bytewise(text, dialect) if r.text != text]
            assert sorted(found) == sorted(expected), name
            checked += len(expected)
    assert checked > 100


HOSTILE = {
    "braces": lambda n: "{" * n,
    "closers": lambda n: "{}" * (n // 2),
    "brace and quote": lambda n: '{"' * (n // 2),
    "keys": lambda n: '{"desc"' * (n // 7),
    "nested keys": lambda n: '{"desc": [' * (n // 10),
    "endless list": lambda n: '[{"desc": "a", "poly": [' + "<|coord_1|>, " * (n // 13),
    "endless string": lambda n: '[{"desc": "' + "{ " * (n // 2),
    "broken records": lambda n: ('{"desc": "cat, "bbox_2d": [1]}, ') * (n // 32),
    "containers": lambda n: '{"objects": [' * (n // 13),
    "escapes": lambda n: '{"a' + '\\"' * (n // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("whole", [False, True], ids=["bytewise", "one piece"])
def test_bytes_looked_at_grow_with_the_text_and_no_faster(monkeypatch, name, whole):
    """Text handed to patterns and to the parser, at n and 10 n bytes."""

    def work(size):
        handled = 0
        text_of, read, before = RecordStream._text, record_stream.read_record, RecordStream._before

        def counted_text(*args):
            nonlocal handled
            text = text_of(*args)
            handled += len(text)
            return text

        def counted_before(*args):
            nonlocal handled
            raw = before(*args)
            handled += len(raw)
            return raw

        def counted_read(text, *args):
            nonlocal handled
            handled += len(text)
            return read(text, *args)

        monkeypatch.setattr(RecordStream, "_text", counted_text)
        monkeypatch.setattr(RecordStream, "_before", counted_before)
        monkeypatch.setattr(record_stream, "read_record", counted_read)
        raw = HOSTILE[name](size).encode()
        stream = RecordStream(LIST)
        for piece in [raw] if whole else re.findall(rb"(?s).", raw):
            stream.push(piece)
        monkeypatch.undo()
        return handled

    small, large = work(2_000), work(20_000)
    assert large <= 12 * max(small, 200)
    assert large <= 80 * 20_000
