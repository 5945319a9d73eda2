"""Labels of answers: kinds by characters, boxes, and texts that look like special tokens."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.coords import CoordVocabulary, coord_token
from coordeval.data.canonical import render_text
from coordeval.errors import DataError
from coordeval.parsers.dialects import dialect_named
from coordeval.training.data.labels import (
    COORDINATE,
    DESCRIPTION,
    END,
    STRUCTURE,
    AnswerLabeller,
)
from coordeval.training.tiny.model import tiny_tokenizer

TOKENIZER = tiny_tokenizer(["red circle", "green square"])
END_ID = TOKENIZER.eos_token_id
LABELLER = AnswerLabeller(TOKENIZER, CoordVocabulary.from_tokenizer(TOKENIZER), END_ID)

AWKWARD = [
    "第九",
    "🐈‍⬛",
    '"',
    "\\",
    "]}, {",
    '", "bbox_2d": [',
    '"desc": "',
    "<|coord_7|>",
    "<|im_end|>",
    "<|image_pad|>",
    "<<|im_end|>|>",
    "\n",
    "e\u0301",
    " ",
]
pieces = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
descriptions = (
    st.lists(pieces, min_size=1, max_size=5)
    .map(lambda parts: unicodedata.normalize("NFC", "".join(parts)))
    .filter(lambda text: text.strip())
)
bins = st.integers(0, 999)
geometries = st.one_of(
    st.tuples(st.just("bbox_2d"), st.lists(bins, min_size=4, max_size=4)),
    st.tuples(st.just("poly"), st.lists(bins, min_size=3, max_size=4).map(lambda v: v * 2)),
    st.tuples(st.just("line"), st.lists(bins, min_size=4, max_size=4)),
)
records = st.lists(st.tuples(descriptions, geometries), max_size=4)


def _bytes_of_tokens(token_ids):
    """The bytes that each token stands for, by the byte alphabet of GPT-2."""
    alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
    codes = alphabet + [256 + n for n in range(256 - len(alphabet))]
    values = alphabet + [byte for byte in range(256) if byte not in alphabet]
    byte_of = {chr(code): value for code, value in zip(codes, values, strict=True)}
    added = {number: text for text, number in TOKENIZER.get_added_vocab().items()}
    out = []
    for token_id in token_ids:
        if token_id in added:
            out.append(added[token_id].encode())
        else:
            out.append(bytes(byte_of[c] for c in TOKENIZER.convert_ids_to_tokens(token_id)))
    return out


def _reference(objects, dialect):
    """Text written anew, with the kind of every character, and the bins of every box."""
    text, kinds, boxes = "", [], []

    def put(part, kind):
        nonlocal text
        text += part
        kinds.extend([kind] * len(part))

    def desc_field(desc):
        put('"desc": "', STRUCTURE)
        put(json.dumps(desc, ensure_ascii=False)[1:-1], DESCRIPTION)
        put('"', STRUCTURE)

    def geometry_field(kind, values):
        put(f'"{kind}": [', STRUCTURE)
        quote = '"' if dialect.coordinates == "quoted_token" else ""
        for number, value in enumerate(values):
            put((", " if number else "") + quote, STRUCTURE)
            put(coord_token(value), COORDINATE)
            put(quote, STRUCTURE)
        put("]", STRUCTURE)
        if kind == "bbox_2d":
            boxes.append(tuple(values))

    put('{"objects": [' if dialect.container == "list" else "{", STRUCTURE)
    for number, (desc, (kind, values)) in enumerate(objects):
        put(", " if number else "", STRUCTURE)
        put("" if dialect.container == "list" else f'"object_{number + 1}": ', STRUCTURE)
        put("{", STRUCTURE)
        if dialect.field_order == "desc_first":
            desc_field(desc)
            put(", ", STRUCTURE)
            geometry_field(kind, values)
        else:
            geometry_field(kind, values)
            put(", ", STRUCTURE)
            desc_field(desc)
        put("}", STRUCTURE)
    put("]}" if dialect.container == "list" else "}", STRUCTURE)
    return text, kinds, boxes


@settings(max_examples=250)
@given(
    records,
    st.sampled_from(["coordjson", "coordjson-quoted", "object-map"]),
    st.sampled_from(["desc_first", "geometry_first"]),
)
def test_kinds_follow_the_characters_of_every_text(objects, dialect_name, field_order):
    """Kinds and boxes equal those of a writer that notes the kind of every character."""
    dialect = dialect_named(dialect_name, field_order=field_order)
    text = render_text([(desc, kind, values) for desc, (kind, values) in objects], dialect)
    reference, char_kinds, boxes = _reference(objects, dialect)
    assert text == reference
    answer = LABELLER.label(text)
    written = _bytes_of_tokens(answer.token_ids[:-1])
    assert b"".join(written) == text.encode()
    char_of_byte = [i for i, char in enumerate(text) for _ in char.encode()]
    place = 0
    for token, kind in zip(written, answer.kinds_T.tolist()[:-1], strict=True):
        touched = {char_kinds[char_of_byte[place + k]] for k in range(len(token))}
        place += len(token)
        assert kind == (touched.pop() if len(touched) == 1 else STRUCTURE)
    bins_of = CoordVocabulary.from_tokenizer(TOKENIZER).bins_of
    ids = answer.token_ids
    assert [tuple(bins_of([ids[i] for i in box])) for box in answer.boxes_M4.tolist()] == boxes
    assert ids[-1] == END_ID
    assert answer.kinds_T[-1] == END
    assert (answer.kinds_T == END).sum() == 1
    assert LABELLER.lengths([text, text]) == [len(ids)] * 2


def test_a_special_token_in_a_description_is_taught_as_its_characters():
    """`<|im_end|>`, an image token and a coordinate in a description never become those tokens."""
    desc = "a <|im_end|><|image_pad|> <|coord_5|>"
    text = render_text([(desc, "bbox_2d", (1, 2, 3, 4))], dialect_named("coordjson"))
    ids = LABELLER.label(text).token_ids
    assert TOKENIZER.decode(ids[:-1]) == text
    assert ids.count(END_ID) == 1
    assert TOKENIZER.convert_tokens_to_ids("<|image_pad|>") not in ids
    assert TOKENIZER.convert_tokens_to_ids("<|coord_5|>") not in ids


def test_integers_are_structure():
    """A dialect of integers has neither coordinate tokens nor boxes, with any tokenizer."""
    text = render_text([("cat", "bbox_2d", (1, 2, 3, 4))], dialect_named("coordjson-bins"))
    plain = tiny_tokenizer(["cat"], coordinates=False)
    for labeller in (LABELLER, AnswerLabeller(plain, None, plain.eos_token_id)):
        answer = labeller.label(text)
        assert set(answer.kinds_T.tolist()) == {DESCRIPTION, STRUCTURE, END}
        assert answer.boxes_M4.shape == (0, 4)


def test_an_empty_answer_is_all_structure():
    """No objects: brackets and the end token."""
    answer = LABELLER.label('{"objects": []}')
    assert set(answer.kinds_T[:-1].tolist()) == {STRUCTURE}
    assert answer.boxes_M4.shape == (0, 4)


def test_invalid_unicode_and_slow_tokenizers_are_refused():
    """A lone surrogate is a fault of the data, a tokenizer without offsets one of the caller."""
    with pytest.raises(DataError, match="Unicode"):
        LABELLER.label('{"objects": [{"desc": "\ud800", "bbox_2d": [<|coord_1|>]}]}')
    with pytest.raises(ValueError, match="fast tokenizer"):
        AnswerLabeller(object(), None, 0)
