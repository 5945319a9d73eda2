"""Context embeddings: values, gradients, noise and the distance to real embeddings."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.training.stage2.config import CONTEXT_GRADIENTS, ContextConfig
from coordeval.training.stage2.context import (
    bin_probabilities,
    context_embeddings,
    nearest_distances,
    off_manifold,
    picked_bins,
)
from coordeval.training.stage2.gumbel import gumbel_noise

KINDS = tuple(CONTEXT_GRADIENTS)
EVERY = [(kind, gradient) for kind, known in CONTEXT_GRADIENTS.items() for gradient in known]


def drawn(seed=0, slots=5, bins=11, hidden=6, dtype=torch.float64):
    """Logits, rows and noise."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(slots, bins, generator=generator, dtype=torch.float64) * 2
    rows = torch.randn(bins, hidden, generator=generator, dtype=torch.float64)
    noise = torch.randn(slots, bins, generator=generator)
    return logits.to(dtype), rows.to(dtype), noise


def made(logits, rows, noise, **config):
    """Context of a configuration."""
    return context_embeddings(logits, rows, ContextConfig(**config), noise_CK=noise)


def by_hand(z, rows, noise, kind, temperature, top_k):
    """Probabilities and the picked bin of one slot, in plain Python."""
    z = [float(v) for v in z]
    if kind == "gumbel_softmax":
        z = [v + float(n) for v, n in zip(z, noise, strict=True)]
    weights = [math.exp((v - max(z)) / temperature) for v in z]
    if kind == "top_k":
        kept = sorted(range(len(z)), key=lambda k: -z[k])[:top_k]
        weights = [w if k in kept else 0.0 for k, w in enumerate(weights)]
    probs = [w / sum(weights) for w in weights]
    pick = z.index(max(z))
    if kind == "rounded_expectation":
        pick = round(sum(k * p for k, p in enumerate(probs)))
    return probs, pick


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(1, 20),
    slots=st.integers(0, 4),
)
@pytest.mark.parametrize(("kind", "gradient"), EVERY)
def test_values_follow_their_definition(kind, gradient, seed, temperature, top_k, slots):
    """Each context is the mixture or the row that its definition says, slot by slot."""
    logits, rows, noise = drawn(seed, slots)
    config = {"kind": kind, "temperature": temperature, "top_k": top_k, "gradient": gradient}
    found = made(logits, rows, noise, **config)
    assert found.shape == (slots, rows.shape[1])
    for slot in range(slots):
        probs, pick = by_hand(logits[slot], rows, noise[slot], kind, temperature, top_k)
        is_row = gradient == "straight_through" or kind in ("argmax", "rounded_expectation")
        mixed = (torch.tensor(probs, dtype=torch.float64)[:, None] * rows).sum(0)
        torch.testing.assert_close(found[slot], rows[pick] if is_row else mixed)
        probabilities = bin_probabilities(logits, ContextConfig(**config), noise_CK=noise)
        torch.testing.assert_close(probabilities[slot].tolist(), probs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["argmax", "rounded_expectation", "gumbel_softmax"])
def test_straight_through_is_a_row_to_the_last_bit(kind, dtype):
    """The value is the picked row, signs of zero and huge numbers included."""
    logits, rows, noise = drawn(dtype=dtype)
    rows[:, 0], rows[:, 1] = -0.0, 3e38
    logits.requires_grad_()
    rows.requires_grad_()
    found = made(logits, rows, noise, kind=kind, gradient="straight_through")
    config = ContextConfig(kind=kind, gradient="straight_through")
    wide = logits.to(torch.promote_types(dtype, torch.float32))
    picks = picked_bins(wide.detach(), config, noise_CK=noise)
    assert found.requires_grad
    back = found.detach().to(dtype)
    assert back.equal(rows.detach()[picks])
    assert torch.signbit(back[:, 0]).all()
    assert found.dtype == wide.dtype


@pytest.mark.parametrize("kind", ["argmax", "rounded_expectation", "gumbel_softmax"])
def test_straight_through_has_the_gradient_of_the_mixture(kind):
    """To logits and to rows it is that of `expected`, or of the noisy mixture."""
    upstream = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    soft_kind = kind if kind == "gumbel_softmax" else "expected"
    for config in (
        {"kind": kind, "gradient": "straight_through"},
        {"kind": soft_kind, "gradient": "soft"},
    ):
        logits, rows, noise = drawn()
        logits.requires_grad_()
        rows.requires_grad_()
        (made(logits, rows, noise, temperature=0.7, **config) * upstream).sum().backward()
        found.append((logits.grad, rows.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["expected", "top_k", "gumbel_softmax"])
def test_soft_gradients_are_the_numerical_ones(kind):
    """Gradients of mixtures pass a check by finite differences."""
    logits, rows, noise = drawn(slots=2, bins=6, hidden=3)
    config = ContextConfig(kind=kind, top_k=3, temperature=0.6)
    logits.requires_grad_()
    rows.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, e: context_embeddings(z, e, config, noise_CK=noise.double()), (logits, rows)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_stop_gives_no_gradient_at_all(kind):
    """Neither logits nor rows learn from a stopped context, whose value is the same."""
    logits, rows, noise = drawn()
    value = made(logits, rows, noise, kind=kind, gradient=CONTEXT_GRADIENTS[kind][0])
    logits.requires_grad_()
    rows.requires_grad_()
    found = made(logits, rows, noise, kind=kind, gradient="stop")
    assert not found.requires_grad
    assert found.equal(value)


def test_limits_meet():
    """One of k is the argmax, all of k and T for all are the expectation, T near 0 the argmax."""
    logits, rows, noise = drawn()
    expected = made(logits, rows, None, kind="expected")
    row = made(logits, rows, None, kind="argmax")
    torch.testing.assert_close(made(logits, rows, None, kind="top_k", top_k=1), row)
    torch.testing.assert_close(made(logits, rows, None, kind="top_k", top_k=99), expected)
    torch.testing.assert_close(made(logits, rows, None, kind="top_k", top_k=11), expected)
    torch.testing.assert_close(made(logits, rows, None, kind="expected", temperature=1e-4), row)
    torch.testing.assert_close(made(logits, rows, noise * 0, kind="gumbel_softmax"), expected)
    assert made(logits, rows, noise, kind="gumbel_softmax").ne(expected).any()


def test_rounding_is_that_of_the_expectation():
    """Equal weight on bins 2 and 3 of equal logits rounds to the even bin; on 0 and 4 to 2."""
    rows = torch.eye(6)
    logits = torch.full((3, 6), -torch.inf)
    logits[0, [2, 3]] = 0.0
    logits[1, [0, 4]] = 0.0
    logits[2, 5] = 0.0
    found = made(logits, rows, None, kind="rounded_expectation", gradient="stop")
    assert found.argmax(dim=1).tolist() == [2, 2, 5]


@pytest.mark.parametrize(("kind", "gradient"), EVERY)
def test_extreme_logits_have_finite_values_and_gradients(kind, gradient):
    """Logits of 1e4, all equal ones and float32 rows of any size give finite numbers."""
    logits, rows, noise = drawn(dtype=torch.float32)
    logits[0], logits[1], logits[2, 3] = 0.0, -1e4, 1e4
    logits.requires_grad_()
    rows.requires_grad_()
    found = made(logits, rows * 100, noise, kind=kind, gradient=gradient, temperature=0.1)
    assert found.isfinite().all()
    if found.requires_grad:
        found.square().sum().backward()
        assert logits.grad.isfinite().all()
        assert rows.grad.isfinite().all()


def test_numbers_that_are_none_do_not_crash():
    """NaN logits give some context, and the loss has them to report."""
    logits, rows, noise = drawn()
    logits[1] = torch.nan
    for kind, gradient in EVERY:
        assert made(logits, rows, noise, kind=kind, gradient=gradient).shape == (5, 6)


@pytest.mark.parametrize(("kind", "gradient"), EVERY)
def test_no_slots_give_no_embeddings(kind, gradient):
    """(0, H), and no distance."""
    logits, rows, noise = drawn(slots=0)
    found = made(logits, rows.requires_grad_(), noise, kind=kind, gradient=gradient)
    assert found.shape == (0, 6)
    assert off_manifold(found, rows) == (0.0, 0)


def test_arithmetic_is_float32_under_autocast():
    """bfloat16 logits and rows under autocast give what float32 gives for the same numbers."""
    logits, rows, noise = drawn(dtype=torch.bfloat16, bins=1000)
    for kind, gradient in EVERY:
        config = {"kind": kind, "gradient": gradient}
        with torch.autocast("cpu", torch.bfloat16):
            found = made(logits, rows, noise, **config)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, made(logits.float(), rows.float(), noise, **config))


def test_shapes_that_do_not_fit_are_refused():
    """Rows for other bins, and noise that is missing or of another shape."""
    logits, rows, noise = drawn()
    with pytest.raises(ValueError, match=r"logits \(C, K\) and rows \(K, H\)"):
        made(logits, rows[1:], None, kind="expected")
    with pytest.raises(ValueError, match="needs noise"):
        made(logits, rows, None, kind="gumbel_softmax")
    with pytest.raises(ValueError, match="needs noise"):
        made(logits, rows, noise[1:], kind="gumbel_softmax")
    with pytest.raises(ValueError, match="no row"):
        nearest_distances(rows, rows[:0])


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    shift=st.sampled_from([0.0, 50.0]),
)
def test_distances_are_to_the_nearest_row(seed, scale, shift):
    """Each distance is the least of all, computed pair by pair; a row's own is exactly 0."""
    generator = np.random.default_rng(seed)
    rows = torch.tensor(generator.normal(size=(9, 5)) * scale + shift, dtype=torch.float32)
    points = torch.tensor(generator.normal(size=(7, 5)) * scale + shift, dtype=torch.float32)
    expected = [
        min(math.dist(point, row) for row in rows.double().tolist())
        for point in points.double().tolist()
    ]
    assert nearest_distances(points, rows).tolist() == pytest.approx(expected, rel=1e-4)
    total = off_manifold(points, rows)
    assert total.num_tokens == 7
    assert float(total.loss_sum) == pytest.approx(sum(expected), rel=1e-4)
    assert nearest_distances(rows[[3, 3, 8]], rows).tolist() == [0.0, 0.0, 0.0]


def test_rows_that_nearly_agree_are_told_apart():
    """Far from the origin, rows a few bits apart still have distance 0 to themselves."""
    rows = 100 + torch.arange(50, dtype=torch.float32)[:, None] * 1e-4 * torch.ones(1, 8)
    assert len(torch.unique(rows, dim=0)) > 40
    assert not nearest_distances(rows, rows).any()


@pytest.mark.parametrize("kind", ["argmax", "rounded_expectation"])
def test_only_mixtures_leave_the_embeddings(kind):
    """Picked rows are at distance 0, a mixture of two is not."""
    logits, rows, _ = drawn(dtype=torch.float32)
    assert float(off_manifold(made(logits, rows, None, kind=kind), rows).loss_sum) == 0
    assert float(off_manifold(made(logits, rows, None, kind="expected"), rows).loss_sum) > 1


def test_noise_belongs_to_the_sample():
    """Alone, in another order or in another company, a sample's noise is the same."""
    options = {"seed": 1, "step": 2, "iteration": 1}
    together = gumbel_noise([("a", 4), ("b", 2), ("é", 3)], 7, **options)
    assert together.dtype == torch.float32
    assert together[4:6].equal(gumbel_noise([("b", 2)], 7, **options))
    turned = gumbel_noise([("é", 3), ("a", 4)], 7, **options)
    assert turned.equal(torch.cat([together[6:], together[:4]]))
    assert gumbel_noise([], 7, **options).shape == (0, 7)


def test_noise_differs_by_seed_step_iteration_and_sample():
    """Whatever is different makes other noise, numbers beyond 32 bits and below 0 included."""
    found = [
        gumbel_noise([(name, 1)], 50, seed=seed, step=step, iteration=iteration)
        for seed in (0, 1, -1, 1 << 32, 1 << 40)
        for step in (0, 1)
        for iteration in (1, 2)
        for name in ("a", "b")
    ]
    assert len({tuple(noise.flatten().tolist()) for noise in found}) == len(found)


def test_noise_is_gumbel():
    """Mean is Euler's constant, variance pi^2 / 6, and argmax of z + noise falls as softmax(z)."""
    noise = gumbel_noise([("a", 200_000)], 3, seed=0, step=0, iteration=1)
    assert noise.isfinite().all()
    assert float(noise.double().mean()) == pytest.approx(0.5772157, abs=0.01)
    assert float(noise.double().var()) == pytest.approx(math.pi**2 / 6, abs=0.02)
    z = torch.tensor([0.0, 1.0, -1.0])
    share = torch.bincount((z + noise).argmax(dim=1)) / len(noise)
    torch.testing.assert_close(share, torch.softmax(z, 0), rtol=0, atol=0.01)
