"""Masks on logits, against the reference masks of the states."""

import numpy as np
import pytest
import torch
from vocabularies import MIXED, SHUFFLED, write_answer

from coordeval.decoding import masking
from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.masking import LogitMasker
from coordeval.decoding.settings import ConstraintSettings
from coordeval.parsers import DIALECTS


def states_of(constraint, table, seed, count=40):
    """States at random places of random answers, a free row and finished ones among them."""
    rng = np.random.default_rng(seed)
    states = [None]
    while len(states) < count:
        token_ids, ended = write_answer(constraint, table, rng, limit=80)
        state = constraint.start()
        cut = int(rng.integers(0, len(token_ids) + 1))
        for token_id in token_ids[:cut]:
            state.advance(token_id)
        if ended and cut == len(token_ids):
            state.advance(min(table.end_ids))
        states.append(state)
    return states


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("table", [MIXED, SHUFFLED], ids=["contiguous", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("gathered", [0, 1 << 17])
def test_exactly_what_is_not_allowed_becomes_minus_infinity(
    table, dtype, inplace, gathered, monkeypatch
):
    """All states, contiguous and scattered coordinates, both ways of applying; the rest is kept."""
    monkeypatch.setattr(masking, "_GATHERED_LOGITS", gathered)
    settings = ConstraintSettings(mode="grammar", max_points=3, sorted_objects=True, max_objects=3)
    constraint = compile_constraint(settings, DIALECTS["coordjson"], table)
    masker = LogitMasker(constraint, "cpu")
    states = states_of(constraint, table, seed=0)
    for batch in (states, states[:1], states[1:2], states[5:9]):
        logits = torch.randn(len(batch), table.vocab_size, dtype=dtype)
        before = logits.clone()
        masked = masker(logits, batch, inplace=inplace)
        for row, state in enumerate(batch):
            allowed = np.ones(table.vocab_size, bool) if state is None else state.allowed()
            assert torch.equal(masked[row][allowed], before[row][allowed])
            assert (masked[row][~allowed] == -torch.inf).all()
        assert (masked is logits) == inplace
        assert inplace or torch.equal(logits, before)


def test_masks_that_were_dropped_are_made_again(monkeypatch):
    """A table too small for all states still masks every one of them rightly."""
    monkeypatch.setattr(masking, "_TABLE_BYTES", 0)
    monkeypatch.setattr(masking, "_LEAST_ROWS", 2)
    constraint = compile_constraint(
        ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], MIXED
    )
    masker = LogitMasker(constraint, "cpu")
    states = states_of(constraint, MIXED, 0, count=20)
    for size in (1, 2, 7, 20):
        for start in range(0, len(states) - size + 1, size):
            batch = states[start : start + size]
            masked = masker(torch.zeros(size, MIXED.vocab_size), batch)
            for row, state in zip(masked, batch, strict=True):
                expected = np.ones(MIXED.vocab_size, bool) if state is None else state.allowed()
                assert np.array_equal(torch.isfinite(row).numpy(), expected)


def test_what_is_no_number_stays_visible():
    """NaN logits stay NaN, so that broken rows are still found behind the mask."""
    constraint = compile_constraint(
        ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], MIXED
    )
    logits = torch.full((1, MIXED.vocab_size), torch.nan)
    masked = LogitMasker(constraint, "cpu")(logits, [constraint.start()])
    assert masked.isnan().all()


def test_logits_of_another_width_are_refused():
    """A table of another vocabulary would mask the wrong tokens."""
    constraint = compile_constraint(
        ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], MIXED
    )
    with pytest.raises(ValueError, match="do not fit"):
        LogitMasker(constraint, "cpu")(torch.zeros(1, 5), [constraint.start()])


def test_an_empty_batch_stays_empty():
    """No rows, nothing to do."""
    constraint = compile_constraint(ConstraintSettings(mode="coords"), DIALECTS["coordjson"], MIXED)
    assert LogitMasker(constraint, "cpu")(torch.zeros(0, MIXED.vocab_size), []).shape == (
        0,
        MIXED.vocab_size,
    )
