"""The grammar against a peer: llguidance, given the same language as Lark text."""

import random

import numpy as np
import pytest

from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.lark import lark_grammar
from coordeval.decoding.settings import ConstraintSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.errors import ConfigError
from coordeval.parsers import DIALECTS, dialect_named
from coordeval.records import GEOMETRY_KINDS
from coordeval.training.tiny.tokenizer import END_OF_TURN, build_tiny_tokenizer

NAMES = ('a"b', "c\\d", "第九", "😀 x", "line\nbreak", "cat", "cats")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer(["red circle, blue square", "第九 😀", "cats and dogs"])


@pytest.fixture(scope="module")
def table(tokenizer):
    return TokenTable.from_tokenizer(
        tokenizer,
        end_ids=[tokenizer.convert_tokens_to_ids(END_OF_TURN)],
        vocab_size=len(tokenizer) + 7,
    )


@pytest.fixture(scope="module")
def peer(tokenizer, table):
    """Grammar text to (function that gives the peer's mask, function that advances it)."""
    llguidance = pytest.importorskip("llguidance")
    from llguidance.hf import from_tokenizer
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    vocabulary = from_tokenizer(tokenizer, n_vocab=table.vocab_size)
    bitmask = allocate_token_bitmask(1, table.vocab_size)

    def build(text):
        matcher = llguidance.LLMatcher(vocabulary, llguidance.LLMatcher.grammar_from_lark(text))
        assert not matcher.is_error(), matcher.get_error()

        def mask():
            fill_next_token_bitmask(matcher, bitmask, 0)
            bits = np.unpackbits(bitmask.view(np.uint8), bitorder="little")
            return bits[: table.vocab_size].astype(bool)

        return mask, matcher.consume_token

    return build


def some_settings(rng):
    return ConstraintSettings(
        mode="grammar",
        geometries=tuple(k for k in GEOMETRY_KINDS if rng.random() < 0.6) or ("poly",),
        class_names=rng.choice([None, NAMES]),
        max_objects=rng.choice([None, 1, 3]),
        max_points=rng.choice([None, 3, 5]),
        separators=rng.choice(["spaced", "compact"]),
        ordered=False,
    )


def urgent(table, token_id):
    return token_id in table.end_ids or table.text_bytes(token_id)[:1] in (b'"', b"]", b"}")


@pytest.mark.parametrize("seed", range(40))
def test_both_allow_the_same_tokens_wherever_an_answer_leads(seed, table, peer):
    """Random walks over random grammars: the masks are equal, bit for bit, end token included."""
    rng = random.Random(seed)
    settings = some_settings(rng)
    dialect = dialect_named(
        rng.choice(["coordjson", "coordjson-quoted"]),
        field_order=rng.choice(["desc_first", "geometry_first"]),
    )
    state = compile_constraint(settings, dialect, table).start()
    peer_mask, peer_advance = peer(lark_grammar(settings, dialect, table))
    for _ in range(120):
        ours = state.allowed()
        np.testing.assert_array_equal(ours, peer_mask())
        allowed = np.flatnonzero(ours).tolist()
        hurried = [i for i in allowed if urgent(table, i)]
        token_id = rng.choice(hurried if hurried and rng.random() < 0.3 else allowed)
        state.advance(token_id)
        if state.finished:
            return
        assert peer_advance(token_id)


@pytest.mark.parametrize("name", ["object-map", "object-map-bare"])
@pytest.mark.parametrize("seed", range(5))
def test_a_map_is_within_what_the_peer_allows(name, seed, table, peer):
    """The peer knows no numbering, so it allows all that our grammar allows, and other numbers."""
    rng = random.Random(seed)
    settings = some_settings(rng)
    state = compile_constraint(settings, DIALECTS[name], table).start()
    peer_mask, peer_advance = peer(lark_grammar(settings, DIALECTS[name], table))
    for _ in range(150):
        ours = state.allowed()
        assert not (ours & ~peer_mask()).any()
        token_id = rng.choice(np.flatnonzero(ours).tolist())
        state.advance(token_id)
        if state.finished:
            return
        assert peer_advance(token_id)


def test_coordinates_stand_in_the_grammar_as_token_ids(table):
    """A literal would spell bytes: no coordinate token's text stands in the grammar."""
    text = lark_grammar(ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], table)
    first = table.coords.token_ids[0]
    assert f"<[{first}-{first + 999}]>" in text
    assert "coord_" not in text


def test_what_a_server_cannot_express_is_refused(table):
    """Guarded free text needs our processor; dialects of numbers need no constraint."""
    with pytest.raises(ConfigError, match="logits processor"):
        lark_grammar(ConstraintSettings(mode="coords"), DIALECTS["coordjson"], table)
    with pytest.raises(ConfigError, match="coordinate tokens"):
        lark_grammar(ConstraintSettings(mode="grammar"), DIALECTS["coordjson-bins"], table)
