"""Promises about how the next token is chosen, against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from coordeval.engines.base import DecodeSettings  # noqa: E402
from coordeval.engines.hf_choose import (  # noqa: E402
    TokenChooser,
    draw,
    repetition_penalised,
    sampling_probabilities,
)


def settings(**options):
    return DecodeSettings(**({"max_new_tokens": 4, "temperature": 1.0} | options))


LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12, unique=True)


@given(
    logits=LOGITS,
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.05, 1.0),
)
def test_probabilities_follow_the_definition(logits, temperature, top_k, top_p):
    """Temperature, then the k most probable, then the smallest set that reaches p, in float64."""
    scaled = np.asarray(logits, dtype=np.float32).astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    kth = np.sort(scaled)[::-1][: top_k or None][-1]  # ties with the k-th stay
    keep = [i for i in np.argsort(-weights, kind="stable") if scaled[i] >= kth]
    probabilities = np.zeros_like(weights)
    probabilities[keep] = weights[keep] / weights[keep].sum()
    mass, nucleus = 0.0, []
    for index in keep:
        if mass >= top_p - 1e-9 and top_p < 1.0 and abs(mass - top_p) < 1e-9:
            return  # on the edge, where rounding decides
        if mass >= top_p and top_p < 1.0:
            break
        nucleus.append(index)
        mass += probabilities[index]
    expected = np.zeros_like(weights)
    expected[nucleus] = probabilities[nucleus] / probabilities[nucleus].sum()
    chosen = settings(temperature=temperature, top_k=top_k, top_p=top_p)
    found = sampling_probabilities(torch.tensor([logits]), chosen)[0].numpy()
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_kept_set_is_that_of_transformers():
    """Top-k and top-p keep the tokens that transformers' own warpers keep."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 50, generator=generator) * 3
    warped = transformers.TemperatureLogitsWarper(0.7)(None, logits.clone())
    warped = transformers.TopKLogitsWarper(20)(None, warped)
    warped = transformers.TopPLogitsWarper(0.8)(None, warped)
    expected = warped.double().softmax(-1)
    found = sampling_probabilities(logits, settings(temperature=0.7, top_k=20, top_p=0.8))
    assert torch.allclose(found, expected, atol=1e-6)


def test_draws_have_the_frequencies_of_the_distribution():
    """Evenly spaced uniform numbers hit every token in exact proportion, impossible ones never."""
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.125, 0.375, 0.0], dtype=torch.float64)
    uniforms = (torch.arange(8000, dtype=torch.float64) + 0.5) / 8000
    chosen = draw(probabilities.expand(8000, -1), uniforms)
    assert torch.bincount(chosen, minlength=6).tolist() == [0, 4000, 0, 1000, 3000, 0]


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_the_extremes_of_the_uniform_hit_possible_tokens(uniform):
    """Neither 0 nor the largest number below 1 can point at a token of probability 0."""
    probabilities = torch.full((1, 10), 0.1, dtype=torch.float64)
    probabilities[0, 0] = probabilities[0, 9] = 0.0
    chosen = draw(probabilities, torch.tensor([uniform], dtype=torch.float64)).item()
    assert probabilities[0, chosen] > 0


def chooser(decode, prompt, seeds=(1,), mask=None, **options):
    mask = torch.ones_like(prompt) if mask is None else mask
    return TokenChooser(decode, seeds=seeds, attention_mask_BS=mask, end_id=0, **options)


def test_only_the_chosen_token_stays_possible():
    """What comes out has one finite entry per row, at the most probable token under greedy."""
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, -1.0, 0.5]])
    prompt = torch.zeros(2, 1, dtype=torch.long)
    out = chooser(settings(temperature=0.0), prompt, seeds=(1, 2))(prompt, logits)
    assert torch.isfinite(out).sum(dim=1).tolist() == [1, 1]
    assert out.argmax(dim=1).tolist() == [1, 0]


def test_noted_logprobs_ignore_temperature_and_filters():
    """The raw distribution is noted, also where sampling was confined to one token."""
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    prompt = torch.zeros(1, 1, dtype=torch.long)
    choose = chooser(settings(temperature=0.3, top_k=1), prompt)
    choose(prompt, logits)
    expected = 3.0 - math.log(1 + math.exp(3) + math.exp(1))
    assert choose.logprobs() == [[pytest.approx(expected, abs=1e-6)]]


def test_the_repetition_penalty_is_that_of_transformers():
    """Prompt and written tokens are penalised as transformers does without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 30, (5, 9), generator=generator)
    logits = torch.randn(5, 30, generator=generator) * 4
    expected = transformers.RepetitionPenaltyLogitsProcessor(1.7)(ids, logits.clone())
    seen = torch.zeros(5, 30, dtype=torch.bool).scatter(-1, ids, True)
    assert torch.equal(repetition_penalised(logits, seen, 1.7), expected)


def test_penalty_counts_prompt_and_written_tokens_but_no_padding():
    """Token 2 is only padding here and stays favoured; token 1 in the prompt does not."""
    prompt = torch.tensor([[2, 2, 1]])
    mask = torch.tensor([[0, 0, 1]])
    choose = chooser(settings(temperature=0.0, repetition_penalty=4.0), prompt, mask=mask)
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    assert choose(prompt, logits).argmax().item() == 2
    longer = torch.tensor([[2, 2, 1, 2]])
    assert choose(longer, logits).argmax().item() == 3


@given(st.sampled_from([math.nan, math.inf]), st.integers(0, 2))
def test_rows_with_broken_logits_end_and_are_reported(value, position):
    """Only the broken row is marked, with the step at which it broke."""
    prompt = torch.zeros(2, 1, dtype=torch.long)
    choose = chooser(settings(temperature=0.0), prompt, seeds=(1, 2))
    fine = torch.tensor([[0.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
    broken = fine.clone()
    broken[1, position] = value
    choose(prompt, fine)
    out = choose(prompt, broken)
    assert choose.broken_at() == [None, 1]
    assert out.argmax(dim=1).tolist() == [1, 0]
    assert all(math.isfinite(number) for row in choose.logprobs() for number in row)


def test_a_row_draws_the_same_in_any_company():
    """The random stream belongs to the row's seed, not to its place in the batch."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 40, generator=generator)
    prompt = torch.zeros(3, 1, dtype=torch.long)
    together = chooser(settings(), prompt, seeds=(7, 8, 9))
    alone = chooser(settings(), prompt[:1], seeds=(9,))
    for _ in range(20):
        row = together(prompt, logits)[2].argmax()
        assert alone(prompt[:1], logits[2:]).argmax() == row


class Allowing:
    """Control that allows the same tokens in every row, and ends the rows it is told to."""

    def __init__(self, allowed, ends=None):
        self.allowed, self.forced = torch.tensor(allowed), ends

    def masked(self, written, logits):
        return logits.masked_fill(~self.allowed, -torch.inf)

    def ends(self, masked, chosen):
        assert torch.isfinite(masked.gather(-1, chosen[:, None])).all()
        return torch.tensor(self.forced or [False] * len(chosen))


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6, unique=True),
    allowed=st.lists(st.booleans(), min_size=6, max_size=6).filter(any),
    penalty=st.sampled_from([0.5, 1.0, 1.7]),
    temperature=st.sampled_from([0.0, 0.3, 2.5]),
    top_k=st.integers(0, 7),
    top_p=st.floats(0.05, 1.0),
    seed=st.integers(0, 50),
)
def test_what_is_not_allowed_is_never_chosen(
    logits, allowed, penalty, temperature, top_k, top_p, seed
):
    """No penalty, temperature or filter brings a masked token back; the raw logprob is noted."""
    decode = settings(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=penalty)
    prompt = torch.tensor([[0, 1, 2]])
    choose = chooser(decode, prompt, seeds=(seed,), control=Allowing(allowed))
    chosen = choose(prompt, torch.tensor([logits])).argmax().item()
    assert allowed[chosen]
    raw = torch.tensor(logits).double().log_softmax(-1)[chosen].item()
    assert choose.logprobs() == [[pytest.approx(raw, abs=1e-5)]]


def test_filters_count_only_what_is_allowed():
    """Top-k takes the k best of the allowed tokens: a masked favourite uses up no place."""
    logits = torch.tensor([[9.0, 8.0, 2.0, 1.0, 0.0]])
    prompt = torch.zeros(1, 1, dtype=torch.long)
    control = Allowing([False, False, True, True, True])
    choose = chooser(settings(temperature=3.0, top_k=2), prompt, control=control)
    assert {choose(prompt, logits).argmax().item() for _ in range(60)} == {2, 3}


def test_forced_rows_end_and_the_others_do_not_notice():
    """A row that must end gets the end token; its neighbour draws what it draws alone."""
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 2.0, 2.5]])
    prompt = torch.zeros(2, 1, dtype=torch.long)
    control = Allowing([True] * 3, ends=[True, False])
    together = chooser(settings(), prompt, seeds=(4, 5), control=control)
    alone = chooser(settings(), prompt[:1], seeds=(5,))
    for _ in range(20):
        first, second = together(prompt, logits).argmax(dim=1).tolist()
        assert first == 0
        assert second == alone(prompt[:1], logits[1:]).argmax().item()


def test_greedy_and_drawn_rows_share_a_batch():
    """Sample 0 takes the most probable token, the others draw at their own temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 40, generator=generator)
    prompt = torch.zeros(4, 1, dtype=torch.long)
    decode = settings(temperature=0.0, samples=3, sample_temperature=1.5)
    mixed = chooser(decode, prompt, seeds=(1, 2, 3, 4), sample_indices=[0, 1, 0, 2])
    alone = [
        chooser(settings(temperature=1.5), prompt[:1], seeds=(2,)),
        chooser(settings(temperature=1.5), prompt[:1], seeds=(4,)),
    ]
    drawn = []
    for _ in range(20):
        chosen = mixed(prompt, logits).argmax(dim=1).tolist()
        assert [chosen[0], chosen[2]] == logits[[0, 2]].argmax(dim=1).tolist()
        assert chosen[1] == alone[0](prompt[:1], logits[1:2]).argmax().item()
        assert chosen[3] == alone[1](prompt[:1], logits[3:]).argmax().item()
        drawn.append(chosen[1])
    assert len(set(drawn)) > 5
