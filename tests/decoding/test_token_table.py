"""Tokens as bytes, against what the tokenizers themselves decode."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from coordeval.coords import coord_token
from coordeval.data.canonical import render_text
from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.settings import ConstraintSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.errors import CheckpointError, ConfigError
from coordeval.parsers import DIALECTS, parse
from coordeval.training.tiny.tokenizer import END_OF_TURN, build_tiny_tokenizer

TEXTS = [
    '{"objects": [{"desc": "red circle", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>]}]}',
    "第九 naïve 😀 \u00a0\u2028\n\t x" + END_OF_TURN + "<|vision_start|> <|coord_0|> <|coord_999|>",
    "\x00\x7f\u0085 ﬁ Å",
]
RECORDS = [("red circle", "bbox_2d", [1, 2, 3, 4]), ("第九 😀", "poly", [1, 2, 3, 4, 9, 0])]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer(TEXTS)


def piece_tokenizer():
    """As sentencepiece models come: pieces with U+2581 for spaces, and a byte fallback."""
    pieces = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *'{}[]":,▁',
        *map(chr, range(97, 123)),
    ]
    merges = [
        ("▁", '"'),
        ('"', ":"),
        ("{", '"'),
        ("▁", "["),
        ('"', ","),
        ("}", "]"),
        ("c", "a"),
        ("ca", "t"),
    ]
    pieces += ["".join(pair) for pair in merges]
    model = models.BPE(
        vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    added = [END_OF_TURN, *(coord_token(k) for k in range(1000))]
    fast.add_tokens([AddedToken(text, special=True, normalized=False) for text in added])
    return fast


def table_of(tokenizer, **fields):
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    return TokenTable.from_tokenizer(tokenizer, end_ids=[end], **fields)


@pytest.mark.parametrize(
    "build", [lambda: build_tiny_tokenizer(TEXTS), piece_tokenizer], ids=["bytes", "pieces"]
)
def test_pieces_join_to_what_the_tokenizer_decodes(build):
    """The bytes of the tokens, one after the other, are the decoded text in UTF-8."""
    tokenizer = build()
    table = table_of(tokenizer)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        decoded = tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert b"".join(map(table.text_bytes, ids)).decode() == decoded
    assert table.text_bytes(table.coords.token_ids[5]) == b"<|coord_5|>"


def test_every_single_token_decodes_to_its_bytes(tokenizer):
    """Each token alone: where its bytes are a whole text, they are the decoded one."""
    table = table_of(tokenizer)
    for token_id in range(len(tokenizer)):
        decoded = tokenizer.decode(
            [token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert table.text_bytes(token_id).decode("utf-8", "replace") == decoded


def test_special_and_coordinate_tokens_are_not_ordinary(tokenizer):
    """They have a text, but nothing may be spelled with them; ids beyond have neither."""
    table = table_of(tokenizer, vocab_size=len(tokenizer) + 3)
    (end,) = table.end_ids
    for token_id in (
        end,
        *table.coords.token_ids,
        tokenizer.convert_tokens_to_ids("<|vision_pad|>"),
    ):
        assert table.ordinary_bytes(token_id) is None
        assert table.text_bytes(token_id).startswith(b"<|")
    for token_id in (-1, len(tokenizer), len(tokenizer) + 2, len(tokenizer) + 99):
        assert table.text_bytes(token_id) == b""
        assert table.ordinary_bytes(token_id) is None
        assert table.bin_of(token_id) is None
    assert [table.bin_of(i) for i in table.coords.token_ids] == list(range(1000))


def test_missing_coordinate_tokens_name_the_remedy():
    """A base model's tokenizer: the error names tokens and the command that adds them."""
    tokenizer = build_tiny_tokenizer()
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(tokenizer.backend_tokenizer.model))
    with pytest.raises(CheckpointError, match=r"<\|coord_0\|>.*coordeval vocab expand"):
        TokenTable.from_tokenizer(bare, end_ids=[0])


def test_a_head_too_narrow_for_the_coordinates_is_refused(tokenizer):
    """Coordinate ids beyond the logits could never be written."""
    with pytest.raises(CheckpointError, match=r"no room for .*coordeval vocab expand"):
        table_of(tokenizer, vocab_size=len(tokenizer) - 1)


def test_pieces_that_are_no_bytes_are_refused():
    """A word-piece tokenizer loses spaces: nothing can be said about the text it writes."""
    words = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    tokenizer.add_tokens([AddedToken(coord_token(k), special=True) for k in range(1000)])
    with pytest.raises(ConfigError, match="cannot be turned into bytes"):
        TokenTable.from_tokenizer(tokenizer, end_ids=[0])


@pytest.mark.parametrize("name", sorted(n for n, d in DIALECTS.items() if "token" in d.coordinates))
@pytest.mark.parametrize(
    "build", [lambda: build_tiny_tokenizer(TEXTS), piece_tokenizer], ids=["bytes", "pieces"]
)
def test_the_tokenizers_own_writing_passes_its_grammar(build, name):
    """Canonical texts as these tokenizers cut them are let through token by token, to the end."""
    tokenizer = build()
    table = table_of(tokenizer)
    dialect = DIALECTS[name]
    text = render_text(RECORDS, dialect)
    assert parse(text, dialect).conforming
    for mode in ("grammar", "coords"):
        state = compile_constraint(ConstraintSettings(mode=mode), dialect, table).start()
        for token_id in (*tokenizer(text, add_special_tokens=False)["input_ids"], *table.end_ids):
            assert state.allowed()[token_id], (mode, table.text_bytes(token_id))
            state.advance(token_id)
        assert state.finished
        assert np.flatnonzero(state.allowed()).tolist() == sorted(table.end_ids)
