"""The unlikelihood term by itself: closed forms at both ends, gradients, several bad tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from coordeval.training.losses import Stage1Objective, unlikelihood
from coordeval.training.losses.unlikelihood import unlikelihood_in_place, unlikelihood_per_token

V = 12


def _row(lead, dtype=torch.float32):
    """Logits whose token 3 leads the logsumexp of the 11 others by so much."""
    row = torch.full((1, V), -math.log(V - 1), dtype=torch.float64)
    row[0, 3] = lead
    return row.to(dtype)


@pytest.mark.parametrize("lead", [-80.0, -30.0, -17.0, -1.0, 0.0, 2.0, 16.0, 40.0, 300.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ends_are_exact(lead, dtype):
    """-log(1 - p) and p, as log(1 + e^lead) and 1 / (1 + e^-lead), at p from 1e-35 to next to 1."""
    exact = lead + math.log1p(math.exp(-lead)) if lead > 0 else math.log1p(math.exp(lead))
    p = 1 / (1 + math.exp(-lead)) if lead > -700 else 0.0
    tokens, tolerance = torch.tensor([3]), 1e-5 if dtype == torch.float32 else 1e-12
    row = _row(lead, dtype).requires_grad_(True)
    value = unlikelihood(row, tokens).loss_sum
    (gradient,) = torch.autograd.grad(value, row)
    total, in_place = unlikelihood_in_place(row.detach().clone(), tokens)
    for got, slope in ((value.detach(), gradient), (total, in_place)):
        assert float(got) == pytest.approx(exact, rel=tolerance)
        assert float(slope[0, 3]) == pytest.approx(p, rel=tolerance)
        assert slope[0, 4].item() == pytest.approx(-p / (V - 1), rel=tolerance)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 3.0, 100.0]), rows=st.integers(0, 6))
def test_both_ways_agree_with_autograd_of_the_definition(seed, scale, rows):
    """It is log Z - log Z without the token, and its gradient by autograd, in float64."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, V, generator=draw, dtype=torch.float64) * scale
    tokens = torch.randint(0, V, (rows,), generator=draw)
    leaf = logits.clone().requires_grad_(True)
    total = leaf.sum() * 0
    for z, token in zip(leaf, tokens.tolist(), strict=True):
        others = torch.stack([z[i] for i in range(V) if i != token])
        lead = z[token] - torch.logsumexp(others, 0)
        total = total + torch.nn.functional.softplus(lead, threshold=700)
    (expected,) = torch.autograd.grad(total, leaf)
    mine = logits.clone().requires_grad_(True)
    term = unlikelihood(mine, tokens)
    (gradient,) = torch.autograd.grad(term.loss_sum, mine)
    value, in_place = unlikelihood_in_place(logits.clone(), tokens)
    assert term.num_tokens == rows
    for got in (term.loss_sum, value):
        torch.testing.assert_close(got, total, rtol=1e-10, atol=1e-300)
    for got in (gradient, in_place):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-300)


def test_autograd_and_finite_differences_agree():
    """Torch's own gradient check in float64, on rows from improbable to nearly certain."""
    logits = torch.randn(5, V, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    logits[0, 3], logits[1, 3] = -12.0, 9.0
    tokens = torch.tensor([3, 3, 0, 11, 5])
    assert torch.autograd.gradcheck(
        lambda z: unlikelihood_per_token(z, tokens), (logits.requires_grad_(True),)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_rows_have_finite_gradients(dtype):
    """Impossible tokens cost nothing; certain ones cost their lead; nothing is NaN."""
    row = torch.zeros(3, V)
    row[0, 3] = -math.inf
    row[1, 3] = 3e4
    row[2, 4:] = -math.inf
    leaf = row.to(dtype).requires_grad_(True)
    values = unlikelihood_per_token(leaf, torch.tensor([3, 3, 3]))
    assert values.dtype == torch.float32
    assert values[0] == 0
    assert float(values[1].detach()) == pytest.approx(3e4 - math.log(V - 1), rel=0.01)
    assert float(values[2].detach()) == pytest.approx(math.log(4 / 3), rel=1e-5)
    values.sum().backward()
    assert torch.isfinite(leaf.grad).all()
    total, gradient = unlikelihood_in_place(leaf.detach().float(), torch.tensor([3, 3, 3]))
    assert total == pytest.approx(float(values.sum().detach()), rel=1e-6)
    assert torch.isfinite(gradient).all()
    assert gradient.sum(dim=1).abs().max() < 1e-6


def test_where_nothing_else_can_be_said_the_loss_is_infinite_and_its_gradient_is_not():
    """A row with one possible token has no finite -log(1 - p); one token alone is refused."""
    row = torch.full((1, V), -math.inf)
    row[0, 3] = 0.0
    total, gradient = unlikelihood_in_place(row.clone(), torch.tensor([3]))
    assert total == math.inf
    assert torch.isfinite(gradient).all()
    leaf = row.clone().requires_grad_(True)
    unlikelihood(leaf, torch.tensor([3])).loss_sum.backward()
    assert torch.isfinite(leaf.grad).all()
    with pytest.raises(ValueError, match="two tokens"):
        unlikelihood(torch.zeros(1, 1), torch.tensor([0]))


def test_masked_rows_reach_neither_value_nor_gradient():
    """The mask leaves rows out before any arithmetic; no rows: sum 0, count 0."""
    logits = torch.zeros(2, V)
    logits[1] = math.nan
    leaf = logits.requires_grad_(True)
    term = unlikelihood(leaf, torch.tensor([1, 2]), torch.tensor([True, False]))
    term.loss_sum.backward()
    assert float(term.loss_sum.detach()) == pytest.approx(math.log(12 / 11), rel=1e-6)
    assert term.num_tokens == 1
    assert leaf.grad[1].abs().max() == 0
    none = unlikelihood(leaf, torch.tensor([1, 2]), torch.tensor([False, False]))
    assert (float(none.loss_sum.detach()), none.num_tokens) == (0.0, 0)


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_the_objective_keeps_small_and_large_probabilities(called):
    """Through the head in float32: leads of -25 and 60, in one row with another bad token."""
    matrix = torch.zeros(V, 2)
    matrix[:, 0], matrix[:, 1] = _row(-25.0)[0], _row(60.0)[0]
    matrix.requires_grad_(True)
    ours = Stage1Objective({"unlikelihood": 1.0}, [8, 9, 10], chunk=1)
    pairs = torch.tensor([[0, 3], [1, 3], [1, 9]])
    loss, terms = ours.compute(
        torch.eye(2),
        (lambda rows: rows @ matrix.T) if called else matrix,
        torch.tensor([-100, 9]),
        {"unlikelihood": 1},
        unlikely_U2=pairs,
    )
    loss.backward()
    assert terms["unlikelihood"].num_tokens == 3
    assert float(loss.detach()) == pytest.approx(60.0, rel=1e-6)
    assert float(matrix.grad[3, 0]) == pytest.approx(math.exp(-25), rel=1e-5)
    # Pushing bin 9 down would only push token 3 up by the 1e-26 that 9 has.
    assert float(matrix.grad[3, 1]) == pytest.approx(1.0, rel=1e-6)
    assert matrix.grad.sum(dim=0).abs().max() < 1e-6


class _Largest(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_logits_exist_a_chunk_at_a_time():
    """Many bad tokens never stand as wide as the vocabulary at once."""
    wide, hidden = 500, torch.randn(40, 2, requires_grad=True)
    weight = torch.randn(wide, 2, requires_grad=True)
    ours = Stage1Objective({"unlikelihood": 1.0}, [8, 9], chunk=4)
    pairs = torch.stack([torch.arange(40), torch.arange(40) * 7], dim=1)
    with _Largest() as largest:
        loss, _ = ours.compute(
            hidden, weight, torch.full((40,), -100), {"unlikelihood": 40}, unlikely_U2=pairs
        )
        loss.backward()
    assert largest.numel == 4 * wide
