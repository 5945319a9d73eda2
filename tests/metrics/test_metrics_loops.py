"""Loops in whole texts: what counts, where they start and end, and what they waste."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from coordeval.metrics.score import score_run
from coordeval.parsers import DIALECTS
from coordeval.runs import open_run

FIRST = 1000


def char_tokens(text):
    """Ids of a toy tokenizer: one id per coordinate token, one per other character."""
    ids, rest = [], text
    while rest:
        if rest.startswith("<|coord_") and "|>" in rest:
            token, rest = rest.split("|>", 1)
            ids.append(FIRST + int(token.removeprefix("<|coord_")))
        else:
            ids.append(ord(rest[0]) % 900)
            rest = rest[1:]
    return ids


def test_32_identical_objects_to_the_token_limit(score, line, rec, text):
    """The onset is the second copy, the end is the end of the text, partial copy included."""
    one = rec("kite", (778, 354, 998, 998))
    whole = text(*[one] * 33)
    cut = whole[: whole.rindex("<|coord_998|>")]
    result = score([line(cut, [], finish_reason="length", token_ids=char_tokens(cut))])
    (loop,) = result.loops
    assert (loop.start_char, loop.onset_char) == (cut.index("{", 1), cut.index(one, 20))
    assert (loop.end_char, loop.reaches_end) == (len(cut), True)
    assert (loop.period_records, loop.repeats) == (1, 32)
    assert loop.onset_token == len(char_tokens(cut[: loop.onset_char]))
    assert loop.wasted_tokens == len(char_tokens(cut[loop.onset_char :]))
    assert result.metrics["dup/wasted_tokens"] == loop.wasted_tokens
    assert result.metrics["dup/max_repeat"] == 32


def test_three_copies_are_no_loop_and_four_are(score, line, rec, text):
    """A block must stand four times."""
    a, b = rec("a", (0, 0, 9, 9)), rec("b", (0, 0, 9, 9))
    assert score([line(text(*[a, b] * 3), [])]).metrics["dup/loop_samples"] == 0
    result = score([line(text(rec("c", (1, 1, 5, 5)), *[a, b] * 4), [])])
    (loop,) = result.loops
    assert (loop.period_records, loop.repeats, loop.reaches_end) == (2, 4, False)
    assert result.metrics["dup/loop_rate"] == 1.0


def test_loops_are_those_of_names_and_values_not_of_the_writing(score, line, rec, text):
    """Spacing and case of the name do not hide a loop."""
    variants = [rec(name, (0, 0, 9, 9)) for name in ("Cat", "cat", "CAT", " cat")]
    assert score([line(text(*variants), [])]).metrics["dup/loop_samples"] == 1


def test_repeated_unreadable_records_are_a_loop(score, line, text):
    """64 identical records with a foreign token in the list are one loop of period 1."""
    bad = '{"desc": "cat", "bbox_2d": [第九, <|coord_1|>, <|coord_2|>, <|coord_3|>]}'
    result = score([line(text(*[bad] * 64), [])])
    (loop,) = result.loops
    assert (loop.period_records, loop.repeats) == (1, 64)


def test_token_loops_inside_a_record_that_never_ends(score, line):
    """A description that goes round in circles to the limit is a loop of text pieces."""
    start = '{"objects": [{"desc": "'
    cut = start + "red and blue and " * 50
    (loop,) = score([line(cut, [], token_ids=char_tokens(cut))]).loops
    assert loop.period_records is None
    assert loop.reaches_end
    assert loop.onset_char < len(start) + 60
    assert loop.wasted_tokens == loop.end_char - loop.onset_char


def test_loops_in_text_without_records(score, line):
    """Prose, special tokens, line breaks and one endless word all show."""
    for lump in ("no no no yes ", "<|im_end|>", "\n", "abc", "第九"):
        assert score([line(lump * 80, [])]).metrics["dup/loop_samples"] == 1, lump


def test_innocent_repetition_is_no_loop(score, line, rec, text):
    """A list of zeros, a row of equal sizes, four equal words: not loops."""
    innocent = [
        '{"objects": [{"desc": "a", "bbox_2d": [0, 0, 0, 0]}]}',
        '{"objects": [{"desc": "a", "bbox_2d": [0, 0, 0, 0',
        "no no no no",
        text(*(rec("a", (k, 0, k + 9, 9)) for k in range(0, 200, 10))),
    ]
    for one in innocent:
        assert score([line(one, [])]).metrics["dup/loop_samples"] == 0, one


def test_wasted_tokens_are_null_without_token_ids(score, line, rec, text):
    """Without ids there is a loop but no number of tokens."""
    result = score([line(text(*[rec("a", (0, 0, 9, 9))] * 5), [])])
    assert result.metrics["dup/loop_samples"] == 1
    assert result.metrics["dup/wasted_tokens"] is None


def test_declared_vocabularies_place_the_onset(score, line, rec, text):
    """A vocabulary of scattered ids, declared in run.json, serves as well as an inferred one."""
    whole = text(*[rec("a", (1, 2, 30, 40))] * 6)
    ids = [FIRST + (token - FIRST) * 3 if token >= FIRST else token for token in char_tokens(whole)]
    vocabulary = {"ids": [FIRST + 3 * k for k in range(1000)]}
    result = score([line(whole, [], token_ids=ids)], meta={"vocabulary": vocabulary})
    (loop,) = result.loops
    assert loop.onset_token == len(char_tokens(whole[: loop.onset_char]))


def test_wasted_tokens_of_whole_pieces_are_counted_to_the_token(score, line, rec, text):
    """With pieces of several signs the count is that of a tokenizer with offsets."""
    piece = re.compile(r"<\|coord_\d+\|>|\w+| ?[^\w\s<]+|\s+|.", re.DOTALL)
    whole = text(rec("person", (9, 9, 50, 50)), *[rec("kite", (1, 2, 30, 40))] * 7)
    spans = [match.span() for match in piece.finditer(whole)]
    ids = [
        FIRST + int(whole[a + 8 : b - 2]) if whole.startswith("<|coord_", a) else (b - a) % 900
        for a, b in spans
    ]
    result = score([line(whole, [], token_ids=[*ids, 7], finish_reason="stop")])
    (loop,) = result.loops
    assert loop.onset_token == sum(a < loop.onset_char for a, _ in spans) - 1
    assert loop.wasted_tokens == sum(a < loop.end_char for a, _ in spans) - loop.onset_token


def test_a_hundred_thousand_records_in_one_text(score, line, rec, text):
    """One hostile text of 100,000 records is scored; the loop in it is found whole."""
    many = text(*[rec("a", (1, 2, 30, 40)), rec("b", (1, 2, 30, 40))] * 50_000)
    result = score([line(many, [{"desc": "a", "bbox_2d": [1, 2, 30, 40]}])])
    (loop,) = result.loops
    assert (loop.period_records, loop.repeats) == (2, 50_000)
    assert result.metrics["f1/0.50/tp"] == 1
    assert json.dumps(result.to_json())


@pytest.mark.parametrize(
    "desc", ["cat", "日本語の説明文がとても長い場合の例です", "🍎" * 10, "a very long one " * 6]
)
def test_wasted_tokens_are_those_that_the_tokenizer_spends(tmp_path, desc):
    """With a real byte-level tokenizer, the waste of a loop is right to a token in any script."""
    tokenizers = pytest.importorskip("tokenizers")
    fixture = Path(__file__).parents[2] / "fixtures" / "shapes-final" / "tokenizer.json"
    record = (
        f'{{"desc": "{desc}", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]}}'
    )
    text = '{"objects": [' + ", ".join([record] * 5) + "]}"
    encoding = tokenizers.Tokenizer.from_file(str(fixture)).encode(text)
    dump = tmp_path / "d.jsonl"
    line = {"id": "a", "width": 9, "height": 9, "gt": [], "text": text, "token_ids": encoding.ids}
    dump.write_text(json.dumps(line) + "\n")
    onset, end = text.index(record, 30), text.rindex(record) + len(record)
    spent = sum(1 for start, _ in encoding.offsets if onset <= start < end)
    assert abs(score_run(open_run(dump)).metrics["dup/wasted_tokens"] - spent) <= 1


def test_repeats_of_a_map_are_those_of_its_text(score, line, rec):
    """Entries whose numbers fall repeat and loop like entries whose numbers rise."""
    one, other = rec("kite", (1, 2, 30, 40)), rec("cat", (5, 6, 70, 80))
    found = []
    for numbers in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]):
        written = zip(numbers, [other, *[one] * 5], strict=True)
        text = "{" + ", ".join(f'"object_{number}": {entry}' for number, entry in written) + "}"
        lines = [line(text, [], id=name, token_ids=char_tokens(text)) for name in "ab"]
        result = score(lines, dialect=DIALECTS["object-map-bare"])
        assert all(loop.onset_char < loop.end_char for loop in result.loops)
        metrics = result.metrics
        found.append({key: metrics[key] for key in metrics if key.startswith("dup/")})
    assert found[0] == found[1]
    assert found[0]["dup/wasted_tokens"] > 0
