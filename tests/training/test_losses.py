"""Loss terms against independent float64 arithmetic and closed forms."""

import math

import numpy as np
import pytest
import torch

from coordeval.training.losses import (
    Stage1Weights,
    gate,
    gaussian_target,
    hard_ce,
    soft_ce,
    stage1_terms,
    text_ce,
    w1,
    weighted_total,
)

V, K, FIRST = 1100, 1000, 40
COORD_IDS = torch.arange(FIRST, FIRST + K)


def _lse(values, axis=-1):
    top = values.max(axis=axis, keepdims=True)
    return (np.log(np.exp(values - top).sum(axis=axis, keepdims=True)) + top).squeeze(axis)


def _reference_target(bins, sigma, truncate):
    rows = []
    for true_bin in bins:
        row = np.array(
            [
                math.exp(-0.5 * ((k - true_bin) / sigma) ** 2)
                if truncate is None or abs(k - true_bin) <= truncate
                else 0.0
                for k in range(K)
            ]
        )
        rows.append(row / row.sum())
    return np.array(rows)


@pytest.fixture
def slots():
    """Random logits of 12 slots, with true bins at and away from the borders."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, size=(12, V)).astype(np.float32)
    bins = np.array([0, 1, 5, 17, 250, 499, 500, 731, 990, 998, 999, 999])
    return logits, bins


@pytest.mark.parametrize(("sigma", "truncate"), [(2.0, 16), (1.0, 8), (1.5, None), (40.0, None)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_terms_equal_float64_references(slots, sigma, truncate, temperature):
    """Every term agrees with plain float64 formulas to 1e-6 per slot, with and without T."""
    logits, bins = slots
    full = logits.astype(np.float64) / temperature
    coord = full[:, FIRST : FIRST + K]
    target = _reference_target(bins, sigma, truncate)
    log_probs = coord - _lse(coord)[:, None]
    expected_soft = -(target * log_probs).sum()
    gap = np.abs(np.exp(log_probs).cumsum(1) - target.cumsum(1)).sum() / 999
    expected_gate = (_lse(full) - _lse(coord)).sum()

    logits_NV, bins_N = torch.from_numpy(logits), torch.from_numpy(bins)
    target_NK = gaussian_target(bins_N, sigma=sigma, truncate=truncate)
    np.testing.assert_allclose(target_NK.numpy(), target, atol=1e-7)
    coord_NK = logits_NV[:, COORD_IDS]
    for term, expected in (
        (soft_ce(coord_NK, target_NK, temperature=temperature), expected_soft),
        (w1(coord_NK, target_NK, temperature=temperature), gap),
        (gate(logits_NV, COORD_IDS, temperature=temperature), expected_gate),
    ):
        assert term.num_tokens == 12
        assert term.loss_sum.dtype == torch.float32
        assert float(term.mean) == pytest.approx(expected / 12, rel=1e-6, abs=1e-6)


def test_cross_entropies_equal_float64_references(slots):
    """Text CE runs over the whole vocabulary, hard CE over the coordinate tokens alone."""
    logits, bins = slots
    full = logits.astype(np.float64)
    labels = bins + FIRST
    rows = np.arange(12)
    expected_text = (_lse(full) - full[rows, labels]).mean()
    coord = full[:, FIRST : FIRST + K]
    expected_hard = (_lse(coord) - coord[rows, bins]).mean()
    logits_NV = torch.from_numpy(logits)
    text = text_ce(logits_NV, torch.from_numpy(labels))
    hard = hard_ce(logits_NV[:, COORD_IDS], torch.from_numpy(bins))
    assert float(text.mean) == pytest.approx(expected_text, rel=1e-6)
    assert float(hard.mean) == pytest.approx(expected_hard, rel=1e-6)


def test_entropy_bound_of_the_soft_target():
    """A model that equals its Gaussian target pays its entropy: 1.419 nats at sigma 1."""
    bins_N = torch.tensor([500])
    target_NK = gaussian_target(bins_N, sigma=1.0, truncate=8)
    logits = target_NK.clamp_min(1e-30).log()
    value = float(soft_ce(logits, target_NK).loss_sum)
    assert value == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=1e-4)
    worse = float(soft_ce(logits + torch.linspace(0, 1, K), target_NK).loss_sum)
    assert worse > value


@pytest.mark.parametrize("shift", [0, 1, 37, 999])
def test_w1_of_a_shifted_point_mass(shift):
    """All mass d bins from a one-hot target costs d / 999; a perfect one costs nothing."""
    target_NK = gaussian_target(torch.tensor([0]), sigma=0.0)
    logits = torch.full((1, K), -1e4)
    logits[0, shift] = 1e4
    assert float(w1(logits, target_NK).loss_sum) == pytest.approx(shift / 999, abs=1e-6)


def test_gate_measures_leaked_mass():
    """The gate is -log of the coordinate mass: log 2 at one half, and never below 0."""
    logits = torch.full((3, V), -1e9)
    logits[0, FIRST + 3] = 5.0
    logits[1, FIRST + 3], logits[1, 2] = 1.0, 1.0
    logits[2, FIRST + 3], logits[2, 2] = 0.0, 20.0
    values = [float(gate(logits[i : i + 1], COORD_IDS).loss_sum) for i in range(3)]
    assert values[0] == 0.0
    assert values[1] == pytest.approx(math.log(2), rel=1e-6)
    assert values[2] == pytest.approx(20.0, rel=1e-6)
    assert float(gate(logits[:, FIRST : FIRST + K], torch.arange(K)).loss_sum) == 0.0


def test_gate_keeps_small_leaks():
    """A leak of e^-25 is not rounded away, as a difference of two logsumexps would."""
    logits = torch.full((1, V), -1e9, requires_grad=True)
    with torch.no_grad():
        logits[0, FIRST], logits[0, 0] = 25.0, 0.0
    term = gate(logits, COORD_IDS)
    assert float(term.loss_sum.detach()) == pytest.approx(math.exp(-25), rel=1e-5)
    term.loss_sum.backward()
    assert float(logits.grad[0, 0]) == pytest.approx(math.exp(-25), rel=1e-5)


def test_target_truncates_and_does_not_mirror_at_the_border():
    """Bins beyond the truncation are exactly 0, rows sum to 1, a border bin keeps the maximum."""
    target_NK = gaussian_target(torch.tensor([0, 500, 999]), sigma=2.0, truncate=3)
    assert target_NK.count_nonzero(dim=1).tolist() == [4, 7, 4]
    np.testing.assert_allclose(target_NK.sum(1).numpy(), 1.0, atol=1e-6)
    assert target_NK.argmax(dim=1).tolist() == [0, 500, 999]
    ratio = target_NK[0, 2] / target_NK[0, 0]
    assert float(ratio) == pytest.approx(math.exp(-0.5), rel=1e-5)


def _all_terms(logits_NV, bins_N, mask_N):
    target_NK = gaussian_target(bins_N, sigma=2.0, truncate=16)
    coord_NK = logits_NV[:, COORD_IDS]
    return {
        "text_ce": text_ce(logits_NV, bins_N + FIRST, mask_N),
        "hard_ce": hard_ce(coord_NK, bins_N, mask_N),
        "soft_ce": soft_ce(coord_NK, target_NK, mask_N=mask_N),
        "w1": w1(coord_NK, target_NK, mask_N=mask_N),
        "gate": gate(logits_NV, COORD_IDS, mask_N=mask_N),
    }


@pytest.mark.parametrize("name", ["text_ce", "hard_ce", "soft_ce", "w1", "gate"])
def test_masked_rows_reach_neither_loss_nor_gradient(slots, name):
    """NaN and infinity in masked rows leave a finite loss, and their gradient is exactly 0."""
    logits, bins = slots
    poisoned = torch.from_numpy(logits.copy())
    poisoned[3], poisoned[8] = math.nan, math.inf
    poisoned.requires_grad_(True)
    mask_N = torch.ones(12, dtype=torch.bool)
    mask_N[[3, 8]] = False
    term = _all_terms(poisoned, torch.from_numpy(bins), mask_N)[name]
    clean = _all_terms(torch.from_numpy(logits)[mask_N], torch.from_numpy(bins)[mask_N], None)[name]
    assert term.num_tokens == clean.num_tokens == 10
    torch.testing.assert_close(term.loss_sum.detach(), clean.loss_sum)
    term.loss_sum.backward()
    assert torch.isfinite(poisoned.grad).all()
    assert poisoned.grad[~mask_N].abs().max() == 0
    assert poisoned.grad[mask_N].abs().max() > 0


@pytest.mark.parametrize("name", ["text_ce", "hard_ce", "soft_ce", "w1", "gate"])
def test_nothing_to_sum_is_zero_and_differentiable(slots, name):
    """With every row masked a term is 0 over 0 positions, its mean 0 and its gradient 0."""
    logits, bins = slots
    logits_NV = torch.from_numpy(logits).requires_grad_(True)
    mask_N = torch.zeros(12, dtype=torch.bool)
    term = _all_terms(logits_NV, torch.from_numpy(bins), mask_N)[name]
    assert (float(term.loss_sum.detach()), term.num_tokens) == (0.0, 0)
    term.mean.backward()
    assert logits_NV.grad is None or logits_NV.grad.abs().max() == 0


def test_extreme_logits_keep_finite_gradients():
    """Logits of 1e4, and -inf on bins without target, give finite losses and gradients."""
    logits = torch.zeros(2, V)
    logits[0, FIRST + 10], logits[1, 0] = 1e4, 1e4
    logits[:, FIRST + 900] = -math.inf
    logits.requires_grad_(True)
    terms = _all_terms(logits, torch.tensor([10, 20]), None)
    total = torch.stack([term.loss_sum for term in terms.values()]).sum()
    total.backward()
    assert math.isfinite(float(total.detach()))
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_arithmetic_is_float32_inside(slots, dtype):
    """Half-precision logits give the float32 value of the same rounded logits."""
    logits, bins = slots
    half = torch.from_numpy(logits).to(dtype)
    bins_N = torch.from_numpy(bins)
    for name, term in _all_terms(half, bins_N, None).items():
        expected = _all_terms(half.float(), bins_N, None)[name]
        torch.testing.assert_close(term.loss_sum, expected.loss_sum, msg=name)


def test_sums_add_up_over_micro_batches(slots):
    """Cutting a batch in two changes no sum and no count: the terms are additive."""
    logits, bins = slots
    logits_NV, bins_N = torch.from_numpy(logits), torch.from_numpy(bins)
    whole = _all_terms(logits_NV, bins_N, None)
    parts = [_all_terms(logits_NV[s], bins_N[s], None) for s in (slice(0, 5), slice(5, 12))]
    for name, term in whole.items():
        summed = sum(float(part[name].loss_sum) for part in parts)
        assert summed == pytest.approx(float(term.loss_sum), rel=1e-5)
        assert sum(part[name].num_tokens for part in parts) == term.num_tokens


def test_stage1_routes_positions_by_label(slots):
    """Coordinate labels feed the coordinate terms alone, all others feed text CE alone."""
    logits, bins = slots
    labels = torch.from_numpy(np.where(np.arange(12) % 3 == 0, 7, bins + FIRST))
    logits_NV = torch.from_numpy(logits)
    weights = Stage1Weights(text_ce=1.0, soft_ce=2.0, w1=4.0, gate=0.5)
    terms = stage1_terms(logits_NV, labels, COORD_IDS, weights=weights, sigma=2.0, truncate=16)
    assert {name: term.num_tokens for name, term in terms.items()} == {
        "text_ce": 4,
        "soft_ce": 8,
        "w1": 8,
        "gate": 8,
    }
    rows = torch.arange(12) % 3 != 0
    reference = _all_terms(logits_NV[rows], torch.from_numpy(bins)[rows], None)
    for name in ("soft_ce", "w1", "gate"):
        torch.testing.assert_close(terms[name].loss_sum, reference[name].loss_sum)
    expected = sum(
        weight * float(terms[name].mean)
        for name, weight in (("text_ce", 1.0), ("soft_ce", 2.0), ("w1", 4.0), ("gate", 0.5))
    )
    assert float(weighted_total(terms, weights)) == pytest.approx(expected, rel=1e-6)
    halved = weighted_total(terms, weights, {"text_ce": 8, "soft_ce": 16, "w1": 16, "gate": 16})
    assert float(halved) == pytest.approx(expected / 2, rel=1e-6)


def test_stage1_works_with_scattered_coordinate_ids():
    """Bins follow the id table, not the order of the ids in the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randperm(V, generator=generator)[:K]
    logits_NV = torch.randn(3, V, generator=generator)
    labels = ids[torch.tensor([4, 500, 999])]
    weights = Stage1Weights(hard_ce=1.0)
    terms = stage1_terms(logits_NV, labels, ids, weights=weights, sigma=1.0)
    expected = hard_ce(logits_NV[:, ids], torch.tensor([4, 500, 999]))
    torch.testing.assert_close(terms["hard_ce"].loss_sum, expected.loss_sum)
    assert terms["text_ce"].num_tokens == 0


def test_misuse_is_refused():
    """Wrong temperatures, sigmas, bins, masks and an objective without terms raise ValueError."""
    logits_NV = torch.zeros(2, V)
    target_NK = gaussian_target(torch.tensor([1, 2]), sigma=1.0)
    for term in (soft_ce, w1):
        with pytest.raises(ValueError, match="temperature"):
            term(logits_NV[:, :K], target_NK, temperature=0.0)
    with pytest.raises(ValueError, match="temperature"):
        gate(logits_NV, COORD_IDS, temperature=-1.0)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_target(torch.tensor([1]), sigma=-1.0)
    with pytest.raises(ValueError, match="truncate"):
        gaussian_target(torch.tensor([1]), sigma=1.0, truncate=-1)
    with pytest.raises(ValueError, match="bins"):
        gaussian_target(torch.tensor([1000]), sigma=1.0)
    with pytest.raises(ValueError, match="mask"):
        text_ce(logits_NV, torch.zeros(2, dtype=torch.long), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no loss term"):
        weighted_total({}, Stage1Weights())
