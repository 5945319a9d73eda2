"""Constraints on what the fixture checkpoints really wrote, token by token."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.settings import ConstraintSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.parsers import DIALECTS, parse
from coordeval.training.tiny.tokenizer import END_OF_TURN

FIXTURES = Path(__file__).parents[2] / "fixtures"
CHECKPOINTS = ("ckpt-300", "ckpt-2400", "shapes-final")


@lru_cache(maxsize=1)
def table_and_constraints(name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / name)
    table = TokenTable.from_tokenizer(
        tokenizer, end_ids=[tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    )
    return table, {
        mode: compile_constraint(ConstraintSettings(mode=mode), DIALECTS["coordjson"], table)
        for mode in ("coords", "grammar")
    }


def recorded(name):
    path = FIXTURES / "runs" / name / "rollouts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def first_refused(state, token_ids):
    """Index of the first token that the constraint does not allow; None where all are."""
    for index, token_id in enumerate(token_ids):
        if not state.allowed()[token_id]:
            return index
        state.advance(token_id)
    return None


@pytest.mark.parametrize("mode", ["coords", "grammar"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_was_written_well_is_let_through(name, mode):
    """Every token of an output without issue and drop is allowed where it was written."""
    _, constraints = table_and_constraints(name)
    clean = 0
    for line in recorded(name):
        parsed = parse(line["text"], "coordjson")
        if parsed.issues or parsed.drops:
            continue
        assert first_refused(constraints[mode].start(), line["token_ids"]) is None, line["text"]
        clean += 1
    assert clean >= 5


@pytest.mark.parametrize("mode", ["coords", "grammar"])
def test_what_drifted_is_stopped_where_it_drifts(mode):
    """A record dropped for its geometry list: the constraint refuses a token inside that record."""
    table, constraints = table_and_constraints("ckpt-2400")
    stopped = 0
    for line in recorded("ckpt-2400"):
        drops = [d for d in parse(line["text"], "coordjson").drops if d.reason == "wrong_arity"]
        if not drops:
            continue
        at = first_refused(constraints[mode].start(), line["token_ids"])
        assert at is not None
        before = b"".join(map(table.text_bytes, line["token_ids"][:at]))
        assert len(before.decode("utf-8", "replace")) < drops[0].end
        stopped += 1
    assert stopped >= 1
