"""Reading rollouts: the tokens of every record and coordinate, and what cannot be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from target_setup import (
    BYTE_IDS,
    END_ID,
    READER,
    TABLE,
    TOKENIZER,
    bytes_of,
    container,
    context,
    ids_of,
    record_text,
    rollout,
    scenes,
    split_at_random,
)

from coordeval.coords import CoordVocabulary, coord_token
from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.training.stage2.reading import read_rollout, record_tokens
from coordeval.training.stage2.token_text import TokenText

PLAIN = dialect_named("coordjson")
CAT = '{"desc": "cat", "bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_110|>, <|coord_220|>]}'


def read(one, dialect=PLAIN):
    return read_rollout(one, tokenizer=TOKENIZER, table=TABLE, dialect=dialect)


def places(reading, dialect=PLAIN):
    return [
        record_tokens(reading.written, record, table=TABLE, dialect=dialect)
        for record in reading.whole
    ]


any_ids = st.lists(
    st.sampled_from(
        [
            *(
                BYTE_IDS[bytes([n])]
                for n in (0x20, 0x22, 0x5B, 0x5D, 0x7B, 0x7D, 0xE7, 0x8C, 0xAB, 0xFF)
            ),
            *ids_of('{"objects": [{"desc": "猫第九", "bbox_2d": [<|coord_5|>]}]}<|im_start|>'),
            *ids_of("<|endoftext|>"),
        ]
    ),
    max_size=40,
)


@given(any_ids)
def test_places_are_those_of_the_bytes(ids):
    """Text, tokens of every range and cuts equal a byte-by-byte reference, broken UTF-8 included."""
    written = TokenText(ids, TABLE)
    pieces = bytes_of(ids)
    raw = b"".join(pieces)
    assert written.text == raw.decode("utf-8", "replace")
    assert written.text == TOKENIZER.decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    token_of = [token for token, piece in enumerate(pieces) for _ in piece]
    # Bytes of each character, by decoding ever longer beginnings.
    ends = [0]
    for n in range(1, len(raw) + 1):
        whole = raw[:n].decode("utf-8", "replace")
        while len(ends) <= len(whole):
            ends.append(n)
        if written.text.startswith(whole):
            ends[len(whole)] = n
    borders = {sum(map(len, pieces[:token])): token for token in range(len(pieces), -1, -1)}
    for char in range(len(written.text)):
        first, behind = written.tokens(char, char + 1)
        assert set(range(first, behind)) >= {token_of[written.byte_at(char)]}
        start, end = written.byte_at(char), written.byte_at(char + 1)
        assert set(token_of[start:end]) == set(range(first, behind))
        before = written.cut_before(char)
        assert borders[written.byte_at(before.char)] == before.token
        assert before.char <= char <= written.cut_after(char).char
        between = range(before.char + 1, char + 1)
        assert not any(written.byte_at(c) in borders for c in between)
    assert written.byte_at(len(written.text)) == len(raw)


@given(scenes(), st.data(), st.sampled_from(["", "Sure! 第九: ", "```json\n"]))
def test_records_and_coordinates_are_found_to_the_token(scene, data, before):
    """Ranges and slots equal those read off the bytes, whatever ids spell the text."""
    text = before + container(PLAIN, [record_text(one, PLAIN) for one in scene.written])
    ids = split_at_random(data.draw, context().tokenise(text))
    reading = read(rollout(text, [*ids, END_ID]))
    assert (reading.status, reading.origin, reading.ended) == ("read", "token_ids", True)
    assert reading.parsed.records == parse(text).records
    assert list(reading.whole) == parse(text).records
    token_of = [token for token, piece in enumerate(bytes_of(ids)) for _ in piece]
    for one, record, place in zip(scene.written, reading.whole, places(reading), strict=True):
        start = len(text[: record.start].encode())
        end = len(text[: record.end].encode())
        assert (place.first, place.behind) == (token_of[start], token_of[end - 1] + 1)
        if one.sort == "dropped":
            continue
        assert [TABLE.bin_of(ids[slot]) for slot in place.slots] == list(one.values)
        assert all(place.first < slot < place.behind for slot in place.slots)
        assert list(place.slots) == sorted(set(place.slots))
        assert record.reason is None
        first, behind = place.description
        assert text[first:behind] in record_text(one, PLAIN)


def test_a_character_of_several_tokens_shifts_nothing():
    """A description in three tokens a character, and one token that ends it and the string."""
    text = '{"objects": [' + CAT.replace("cat", "猫🐈") + ", " + CAT + "]}"
    ids = ids_of(text)
    assert sum(b"\xe7" in piece or b"\xf0" in piece for piece in bytes_of(ids)) == 2
    (first, second) = places(read(rollout(text)))
    assert [TABLE.bin_of(ids[slot]) for slot in second.slots] == [10, 20, 110, 220]
    assert bytes_of(ids[first.behind - 1 : first.behind]) == [b"]},"]
    assert bytes_of(ids[second.first : second.first + 1]) == [b' {"']


def test_a_broken_character_is_one_sign_and_keeps_its_bytes():
    """A token that is half a character: places behind it are right, as is the text."""
    half = BYTE_IDS[b"\xe7"]
    ids = [
        *ids_of('{"objects": ['),
        *ids_of('{"desc": "'),
        half,
        *ids_of('", '),
        *ids_of(CAT[16:] + "]}"),
    ]
    text = TOKENIZER.decode(ids)
    assert "\ufffd" in text
    reading = read(rollout(text, [*ids, END_ID]))
    assert reading.origin == "token_ids"
    (place,) = places(reading)
    assert [TABLE.bin_of(ids[slot]) for slot in place.slots] == [10, 20, 110, 220]
    assert reading.whole[0].desc == "\ufffd"


@pytest.mark.parametrize(
    "broken", [b"\xff", b"\xe7\x8c", b"\xf0\x9f\x90", b"\x8c\xab", b"\xe7\xe7\x8c"]
)
def test_broken_characters_of_any_length_shift_nothing(broken):
    """Lone bytes and beginnings of characters, with whole characters before and behind them."""
    ids = [*ids_of("第é"), *(BYTE_IDS[bytes([byte])] for byte in broken), *ids_of('猫"ab')]
    written = TokenText(ids, TABLE)
    assert written.text == b"".join(bytes_of(ids)).decode("utf-8", "replace")
    quote = written.text.index('"')
    assert written.byte_at(quote) == len("第é".encode()) + len(broken) + len("猫".encode())
    token = written.tokens(quote, quote + 1)[0]
    assert bytes_of(ids)[token].startswith(b'"')


def test_special_and_coordinate_tokens_in_a_description_are_no_slots():
    """Four coordinates in the list are four slots, whatever stands in the description."""
    text = '{"objects": [' + CAT.replace("cat", "<|coord_5|>, <|coord_6|> <|im_start|>") + "]}"
    reading = read(rollout(text))
    (place,) = places(reading)
    ids = reading.written.token_ids
    assert ids.count(ids_of("<|coord_5|>")[0]) == 1
    assert [TABLE.bin_of(ids[slot]) for slot in place.slots] == [10, 20, 110, 220]
    assert (
        reading.written.text[slice(*place.description)] == "<|coord_5|>, <|coord_6|> <|im_start|>"
    )


def test_a_key_inside_a_description_is_no_list():
    """What looks like a list inside a string, escaped as it must be, is passed over."""
    desc = '\\"bbox_2d\\": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>]'
    (place,) = places(reading := read(rollout('{"objects": [' + CAT.replace("cat", desc) + "]}")))
    ids = reading.written.token_ids
    assert [TABLE.bin_of(ids[slot]) for slot in place.slots] == [10, 20, 110, 220]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "invalid"),
        ("   ", "invalid"),
        ("I see a cat.", "invalid"),
        (CAT, "invalid"),
        ("[" + CAT + "]", "invalid"),
        ('{"objects": ', "invalid"),
        ('{"objects": [', "read"),
        ('{"objects": []}', "read"),
        ('{"scene": "road", "objects": [' + CAT + "]}", "read"),
        ('A: {"objects": [' + CAT, "read"),
    ],
)
def test_a_rollout_without_a_container_is_invalid(text, status):
    """Records that stand alone, prose, and an opening that is not finished."""
    assert read(rollout(text)).status == status


def test_the_inside_begins_behind_the_opening():
    """Of a list behind its bracket, of a map behind its brace, whatever stands before."""
    for text, name, before in (
        ('x {"objects": [' + CAT, "coordjson", 'x {"objects": ['),
        ('{"a": 1, "objects" :\n[]}', "coordjson", '{"a": 1, "objects" :\n['),
        ('x {"object_1": ' + CAT + "}", "object-map-bare", "x {"),
        ("{}", "object-map-bare", "{"),
    ):
        assert read(rollout(text), dialect_named(name)).inside == len(before)


def test_ids_of_another_vocabulary_and_missing_ids_are_replaced_and_said():
    """Missing ids, ids beyond the vocabulary and ids of another text: tokenised anew."""
    text = '{"objects": [' + CAT + "]}"
    good = read(rollout(text))
    server = rollout(text)
    server.token_ids = None
    for one in (
        server,
        rollout(text, [10**6, END_ID]),
        rollout(text, [*ids_of(text[:-1]), END_ID]),
    ):
        reading = read(one)
        assert reading.origin == "tokenised"
        assert reading.written.token_ids == good.written.token_ids
        assert reading.ended
    assert not read(rollout(text, [10**6], finish="length")).ended


def test_a_server_text_with_half_a_surrogate_is_read():
    """A lone surrogate has no UTF-8 form; it becomes U+FFFD and nothing is raised."""
    reading = read(rollout('{"objects": [' + CAT.replace("cat", "c\ud83d") + "]}", [10**6]))
    assert reading.whole[0].desc == "c\ufffd"
    assert reading.status == "read"


def test_text_that_the_tokenizer_composes_is_placed_as_its_tokens_say():
    """Tokenised anew, e and an accent become one character: places are those of the tokens."""
    text = '{"objects": [' + CAT.replace("cat", "caf" + "e\u0301") + ", " + CAT + "]}"
    one = rollout(text)
    one.token_ids = None
    reading = read(one)
    assert reading.whole[0].desc == "caf\u00e9"
    for place in places(reading):
        assert [TABLE.bin_of(reading.written.token_ids[slot]) for slot in place.slots] == [
            10,
            20,
            110,
            220,
        ]


def test_failed_rollouts_are_told_apart():
    """An engine's error is neither an invalid nor a readable rollout."""
    assert read(rollout("", [], finish="error", error="out of memory")).status == "failed"
    assert read(rollout('{"objects": [', [], finish="error", error=None)).status == "failed"
    assert read(rollout('{"objects": [' + CAT, finish="grammar_error")).status == "read"


def test_the_reader_of_these_tests_has_two_ends():
    """Both end an answer; the text goes without either."""
    assert len(READER.end_ids) == 2
    for end in READER.end_ids:
        text = '{"objects": []}'
        reading = read(rollout(text, [*ids_of(text), end]))
        assert reading.ended
        assert reading.origin == "token_ids"
        assert reading.written.text == text


def test_records_of_a_map_are_placed_in_the_order_of_the_text():
    """The parser orders a map by its numbers, the tokens stand as they were written."""
    text = '{"object_2": ' + CAT + ', "object_1": ' + CAT.replace("cat", "dog") + "}"
    reading = read(rollout(text), dialect_named("object-map-bare"))
    assert [record.desc for record in reading.whole] == ["cat", "dog"]
    assert [record.desc for record in reading.parsed.records] == ["dog", "cat"]


def test_vocabulary_of_the_table_is_the_tokenizers():
    """Bins of the table are those of the coordinate vocabulary."""
    assert TABLE.coords == CoordVocabulary.from_tokenizer(TOKENIZER)
    assert re.fullmatch(r"<\|coord_\d+\|>", coord_token(3))
