"""Where coordinates are expected: the same places as the parser's, down to the token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers")

from coordeval.data.canonical import render_text
from coordeval.decoding.slots import find_slots
from coordeval.decoding.token_table import TokenTable
from coordeval.parsers import DIALECTS, dialect_named, parse
from coordeval.training.tiny.model import tiny_tokenizer

FIXTURES = Path(__file__).parents[2] / "fixtures"
TOKENIZER = tiny_tokenizer(["red circle"])
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
TABLE = TokenTable.from_tokenizer(TOKENIZER, end_ids={END})
COORDJSON = dialect_named("coordjson")
TOKEN_DIALECTS = [d.name for d in DIALECTS.values() if "token" in d.coordinates]

DESCS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
    st.sampled_from(['a "bbox_2d": [', 'x", "line": [<', "第九 🐈", "]} , {[ \\", "}, {"]),
).filter(lambda text: text.strip() and "<|" not in text)
BINS = st.integers(0, 999)
GEOMETRIES = st.one_of(
    st.tuples(st.just("bbox_2d"), st.lists(BINS, min_size=4, max_size=4)),
    st.tuples(
        st.just("poly"), st.lists(BINS, min_size=6, max_size=12).filter(lambda v: len(v) % 2 == 0)
    ),
    st.tuples(
        st.just("line"), st.lists(BINS, min_size=4, max_size=8).filter(lambda v: len(v) % 2 == 0)
    ),
)
RECORDS = st.lists(
    st.tuples(DESCS, GEOMETRIES).map(lambda pair: (pair[0], *pair[1])), min_size=1, max_size=4
)


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def text_of(token_ids):
    return b"".join(map(TABLE.text_bytes, token_ids)).decode("utf-8", "replace")


def coordinate_tokens(token_ids):
    return [place for place, token_id in enumerate(token_ids) if TABLE.bin_of(token_id) is not None]


def check_against_parser(token_ids, dialect):
    """Every readable list of the parser has exactly its values as places, in order."""
    places = find_slots(token_ids, TABLE, dialect)
    ended = bool(token_ids) and token_ids[-1] == END
    text = text_of(token_ids[:-1] if ended else token_ids)
    records = parse(text, dialect).records
    assert [place.token for place in places] == sorted({place.token for place in places})
    for place in places:
        assert place.written_id == token_ids[place.token]
        assert place.written_bin == TABLE.bin_of(place.written_id)
    checked = 0
    for index, record in enumerate(records):
        mine = [place for place in places if place.record == index]
        arity = record.detail in {"too_few", "too_many", "odd_count"}
        if record.reason in {None, "degenerate_box"} or arity:
            assert {place.kind for place in mine} == {record.kind}
            written = [place for place in mine if place.written_bin is not None]
            assert [place.slot for place in written] == list(range(len(record.values)))
            assert tuple(place.written_bin for place in written) == record.values
            # What else there is stands where the list was closed too early.
            assert len(mine) - len(written) <= arity
            checked += 1
        elif record.detail == "foreign_token":
            at_slot = [place for place in mine if place.slot == record.slot]
            assert at_slot, (record, text)
            piece = TABLE.text_bytes(at_slot[0].written_id).decode("utf-8", "replace")
            quoted = dialect.coordinates == "quoted_token"
            evidence = (record.evidence.lstrip('"') if quoted else record.evidence) or '"'
            # A run of what is foreign begins at the bracket before it.
            assert evidence[:1] in piece or "[" in piece or "{" in piece
            assert [p.slot for p in mine if p.slot < record.slot] == list(range(record.slot))
            checked += 1
    return checked


def lines_of(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


@pytest.mark.parametrize("name", ["ckpt-300", "ckpt-2400", "shapes-final"])
def test_places_line_up_with_the_parser_on_recorded_runs(name):
    """On the token ids that models really wrote, every list of the parser has its places."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / name)
    table = TokenTable.from_tokenizer(tokenizer, end_ids={tokenizer.eos_token_id})
    lists = 0
    for line in lines_of(FIXTURES / "runs" / name / "rollouts.jsonl"):
        ids = line["token_ids"]
        places = find_slots(ids, table, COORDJSON)
        values = [
            (index, value)
            for index, record in enumerate(parse(line["text"], COORDJSON).records)
            if record.reason in {None, "degenerate_box"}
            for value in record.values
        ]
        clean = {index for index, _ in values}
        assert [(p.record, p.written_bin) for p in places if p.record in clean] == values
        assert all(ids[place.token] == place.written_id for place in places)
        for index, record in enumerate(parse(line["text"], COORDJSON).records):
            if record.detail == "foreign_token":
                assert any(
                    p.record == index and p.slot == record.slot and p.written_bin is None
                    for p in places
                )
        lists += len(values)
    assert lists > 500


@pytest.mark.parametrize("path", sorted((FIXTURES / "dumps").glob("*.jsonl")), ids=lambda p: p.stem)
def test_places_line_up_with_the_parser_on_broken_texts(path):
    """Foreign tokens, cuts, drifting keys and loops: slots are those of the parser."""
    names = ["object-map"] if path.stem == "object-map" else ["coordjson", "coordjson-quoted"]
    checked = 0
    for line in lines_of(path):
        for name in names:
            checked += check_against_parser(ids_of(line["text"]), dialect_named(name))
    assert checked or path.stem in {"engine-faults", "truncation", "wrapped"}


@pytest.mark.parametrize("name", TOKEN_DIALECTS)
@given(records=RECORDS, geometry_first=st.booleans())
def test_canonical_texts_have_one_place_per_coordinate(name, records, geometry_first):
    """In what the writer writes, the places are exactly the coordinate tokens, in order."""
    order = "geometry_first" if geometry_first else "desc_first"
    dialect = dialect_named(name, field_order=order)
    ids = ids_of(render_text(records, dialect))
    places = find_slots([*ids, END], TABLE, dialect)
    assert [place.token for place in places] == coordinate_tokens(ids)
    expected = [
        (index, slot, kind, value)
        for index, (_, kind, values) in enumerate(records)
        for slot, value in enumerate(values)
    ]
    assert [(p.record, p.slot, p.kind, p.written_bin) for p in places] == expected
    check_against_parser(ids, dialect)


@pytest.mark.parametrize("name", TOKEN_DIALECTS)
@given(records=RECORDS)
def test_a_cut_text_keeps_the_places_before_the_cut(name, records):
    """Wherever a rollout ends, what was written before has the places it has in the whole."""
    dialect = dialect_named(name)
    ids = ids_of(render_text(records, dialect))
    whole = find_slots(ids, TABLE, dialect)
    for cut in range(0, len(ids) + 1, 3):
        before = [place for place in whole if place.token < cut]
        found = find_slots(ids[:cut], TABLE, dialect)
        assert [p for p in found if p.written_bin is not None] == before
        assert all(p.token >= cut - 2 for p in found if p.written_bin is None)


FOREIGN = ["第九", "85", "x y", "<|im_start|>", "-3.5", "00", "<|coord_1000|>", "null", "🐈"]


@given(records=RECORDS, foreign=st.sampled_from(FOREIGN), data=st.data())
def test_a_foreign_token_is_the_place_where_control_was_lost(records, foreign, data):
    """What stands instead of one coordinate is its place; all other places stay."""
    record = data.draw(st.integers(0, len(records) - 1))
    slot = data.draw(st.integers(0, len(records[record][2]) - 1))
    texts = []
    for index, one in enumerate(records):
        text = render_text([one], COORDJSON)[len('{"objects": [') : -2]
        if index == record:
            opening, closing = text.rindex("[") + 1, text.rindex("]")
            coordinates = text[opening:closing].split(", ")
            coordinates[slot] = foreign
            text = text[:opening] + ", ".join(coordinates) + text[closing:]
        texts.append(text)
    text = '{"objects": [' + ", ".join(texts) + "]}"
    ids = ids_of(text)
    found = parse(text, COORDJSON).records[record]
    assert (found.reason, found.detail) in {
        ("wrong_arity", "foreign_token"),
        ("coord_out_of_range", None),
    }
    assert found.slot == slot
    places = find_slots(ids, TABLE, COORDJSON)
    expected = [
        (index, number, None if (index, number) == (record, slot) else value)
        for index, (_, _, values) in enumerate(records)
        for number, value in enumerate(values)
    ]
    assert [(p.record, p.slot, p.written_bin) for p in places] == expected
    lost = next(p for p in places if p.written_bin is None)
    piece = TABLE.text_bytes(lost.written_id)
    assert foreign.encode().startswith(piece.lstrip()) or piece.lstrip().startswith(
        foreign.encode()
    )


def places_of(inside, dialect="coordjson", *, kind="bbox_2d", tail="]}]}", end=False):
    text = f'{{"objects": [{{"desc": "cat", "{kind}": [{inside}{tail}'
    ids = ids_of(text) + [END] * end
    found = find_slots(ids, TABLE, dialect_named(dialect))
    return [(p.slot, p.written_bin, TABLE.text_bytes(p.written_id).decode()) for p in found]


def c(value):
    return f"<|coord_{value}|>"


def test_a_list_that_closes_too_early_has_a_place_at_its_bracket():
    """`]` where a coordinate belongs is a loss of control too; a full list ends without one."""
    closing = places_of("")
    assert len(closing) == 1
    assert closing[0][:2] == (0, None)
    assert "]" in closing[0][2]
    assert [place[:2] for place in places_of(f"{c(1)}, ")] == [(0, 1), (1, None)]
    full = f"{c(1)}, {c(2)}, {c(3)}, {c(4)}"
    assert [place[:2] for place in places_of(full + ", ")] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [place[:2] for place in places_of(full, kind="poly")] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_an_end_token_in_place_of_a_coordinate_counts():
    """Where the model ended instead of writing a coordinate, the end token stands in the slot."""
    assert places_of(f"{c(1)}, ", tail="", end=True) == [(0, 1, c(1)), (1, None, "<|im_end|>")]
    assert places_of(f"{c(1)}", tail="", end=True) == [(0, 1, c(1))]
    assert places_of(f"{c(1)}, ", tail="") == [(0, 1, c(1))]


def test_a_run_of_foreign_tokens_is_one_place():
    """Up to the next separator, whatever stands there is one loss of control."""
    found = places_of(f"{c(1)}, nine hundred of them 第九, {c(3)}, {c(4)}")
    assert [(slot, value) for slot, value, _ in found] == [(0, 1), (1, None), (2, 3), (3, 4)]


def test_nested_lists_and_double_commas_keep_the_parsers_numbers():
    """Foreign brackets and commas have places without shifting the coordinates behind them."""
    nested = places_of(f"[{c(1)}, {c(2)}], [{c(3)}, {c(4)}]")
    assert [(s, v) for s, v, _ in nested if v is not None] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [s for s, v, _ in nested if v is None] == [0, 2]
    doubled = places_of(f"{c(1)}, , {c(2)}, {c(3)}, {c(4)}")
    assert [(s, v) for s, v, _ in doubled] == [(0, 1), (1, None), (1, 2), (2, 3), (3, 4)]


def test_quoted_places_are_behind_the_quote():
    """In the quoted dialect the coordinate token itself is the place, foreign ones too."""
    found = places_of(f'"{c(1)}", "第九", "{c(3)}", 7', "coordjson-quoted")
    assert [(slot, value) for slot, value, _ in found] == [(0, 1), (1, None), (2, 3), (3, None)]
    cut = places_of(f'"{c(1)}", "{c(2)}', "coordjson-quoted", tail="")
    assert [(slot, value) for slot, value, _ in cut] == [(0, 1), (1, 2)]
    bare = places_of(f"{c(1)}, {c(2)}", "coordjson-quoted")
    assert [(slot, value) for slot, value, _ in bare] == [(0, 1), (1, 2)]


def test_bytes_that_are_no_text_do_not_shift_places():
    """A character cut in its bytes costs no place behind it."""
    broken = next(i for i in range(TABLE.vocab_size) if TABLE.ordinary_bytes(i) == b"\xe7")
    text = '{"objects": [{"desc": "'
    ids = [
        *ids_of(text),
        broken,
        *ids_of(f'", "bbox_2d": [{c(1)}, '),
        broken,
        *ids_of(f", {c(3)}, {c(4)}]}}]}}"),
    ]
    found = find_slots(ids, TABLE, COORDJSON)
    assert [(p.slot, p.written_bin) for p in found] == [(0, 1), (1, None), (2, 3), (3, 4)]
    assert found[1].written_id == broken
    assert [p.token for p in found if p.written_bin is not None] == coordinate_tokens(ids)


@pytest.mark.parametrize("name", ["coordjson-bins", "coordjson-pixels"])
def test_dialects_of_integers_have_no_places(name):
    """Where coordinates are no tokens of their own there is nothing to read off a slot."""
    assert (
        find_slots(
            ids_of('{"objects": [{"desc": "a", "bbox_2d": [1, 2, 3, 4]}]}'),
            TABLE,
            dialect_named(name),
        )
        == []
    )


def test_texts_without_records_have_no_places():
    """Nothing written, prose, and a list outside any record."""
    for text in ("", "no boxes here", '{"objects": []}', f'"bbox_2d": [{c(1)}, {c(2)}]'):
        assert find_slots(ids_of(text), TABLE, COORDJSON) == []
    assert find_slots([END], TABLE, COORDJSON) == []


@given(st.lists(st.sampled_from(range(TABLE.vocab_size)), max_size=60))
def test_any_tokens_are_read(token_ids):
    """Random tokens never raise, and every place is a token that was written."""
    check_against_parser(token_ids, COORDJSON)


PIECES = [
    '{"desc": "a", ',
    '"bbox_2d": [',
    '"poly": [',
    c(5),
    ", ",
    "]",
    "}",
    '"',
    "[",
    "{",
    "]}",
    "第",
    "x ",
    '{"objects": [',
    "\n",
]


@pytest.mark.parametrize("name", ["coordjson", "coordjson-quoted", "object-map-bare"])
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_broken_json_of_any_kind_is_read(name, pieces):
    """Pieces of the language in any order never raise, and readable lists line up."""
    check_against_parser(ids_of("".join(pieces)), dialect_named(name))
