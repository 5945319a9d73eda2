"""Promises about turning token ids into verbatim text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers")

from coordeval.engines.hf_text import cut_at_end, decode_verbatim, read_answer
from coordeval.training.tiny.model import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
PAD = TOKENIZER.convert_tokens_to_ids("<|endoftext|>")


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_comes_back_character_by_character(text):
    """Characters of several tokens stay whole, spaces stay where they are."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        return
    normalised = decode_verbatim(ids_of(text), TOKENIZER)
    import unicodedata

    assert normalised == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", ["第九", "🐈‍⬛ café", ' , "x" ,\n\n  y . !', "<|coord_5|>, <|coord_6|>"]
)
def test_answers_with_an_end_token_keep_their_text(text):
    """The final end token is cut from the text alone; padding behind it vanishes."""
    ids = ids_of(text)
    answer = read_answer([*ids, END, PAD, PAD], {END}, TOKENIZER)
    assert answer == (text, [*ids, END], "stop")
    assert read_answer(ids, {END}, TOKENIZER) == (text, ids, "length")


def test_special_tokens_inside_the_answer_are_kept_verbatim():
    """Anything special before the end stays in the text, padding token included."""
    ids = ids_of("a<|vision_start|>b<|endoftext|>c")
    assert read_answer([*ids, END], {END}, TOKENIZER).text == "a<|vision_start|>b<|endoftext|>c"


def test_only_one_end_token_is_cut():
    """The text ends at the first end token; a second one is padding's business."""
    assert cut_at_end([7, END, END, 8], {END}) == ([7, END], True)
    assert cut_at_end([7, 8], {END}) == ([7, 8], False)
    assert cut_at_end([], {END}) == ([], False)


def test_padding_with_the_end_token_itself_is_harmless():
    """Where a tokenizer pads with its end token, rows still end at the first one."""
    assert read_answer([END, END, END], {END}, TOKENIZER) == ("", [END], "stop")


def test_an_empty_row_is_an_empty_text():
    """Nothing generated is nothing written."""
    assert read_answer([], {END}, TOKENIZER) == ("", [], "length")
