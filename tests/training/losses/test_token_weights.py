"""Weights of single text tokens and the unlikelihood term, within the whole objective."""

import math

import pytest
import torch
from torch import nn
from weighted_problem import (
    BOXES,
    COORD_IDS,
    END_ID,
    UNLIKELY,
    WEIGHTS,
    H,
    N,
    V,
    objective,
    problem,
    reference,
)

from coordeval.training.config import ObjectiveConfig
from coordeval.training.losses import Stage1Objective

NOTHING = torch.empty((0, 2), dtype=torch.long)


def _extras(text_weights, unlikely=UNLIKELY):
    return {"text_weights_N": text_weights, "unlikely_U2": unlikely}


def _run(ours, given, *, called=False, unlikely=UNLIKELY, **more):
    hidden, weight, labels, text_weights = given
    head = (lambda rows: nn.functional.linear(rows, weight)) if called else weight
    extras = _extras(text_weights, unlikely)
    counts = ours.counts(labels, BOXES, **extras)
    denominators = ours.divisors(counts)
    loss, terms = ours.compute(
        hidden, head, labels, denominators, box_slots_M4=BOXES, **extras, **more
    )
    loss.backward()
    return loss.detach(), terms, hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_whole_objective_equals_a_plain_float64_one(temperature, called, chunk):
    """Sums, counts, loss and both gradients to float64 rounding, for any chunk, T and head."""
    ours = objective(temperature=temperature, chunk=chunk)
    loss, terms, grad_hidden, grad_weight = _run(ours, problem(), called=called)
    hidden, weight, labels, text_weights = problem()
    sums, counts = reference(
        hidden, weight, labels, text_weights, UNLIKELY, temperature=temperature
    )
    assert tuple(terms) == ours.denominator_names == tuple(WEIGHTS)
    for name, term in terms.items():
        assert term.num_tokens == pytest.approx(counts[name], rel=1e-12), name
        assert float(term.loss_sum) == pytest.approx(float(sums[name].detach()), rel=1e-11), name
    expected = sum(WEIGHTS[name] * sums[name] / counts[name] for name in WEIGHTS)
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-11)
    torch.testing.assert_close(grad_hidden, hidden.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(grad_weight, weight.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["text_ce", "unlikelihood", "text_gate"])
@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_a_term_alone_has_the_slope_of_finite_steps(called, name):
    """The gradient along a random direction is the quotient of small differences of the value."""
    ours = objective([name], temperature=0.8)
    hidden, weight, labels, text_weights = problem(seed=3)
    _, _, grad_hidden, grad_weight = _run(ours, (hidden, weight, labels, text_weights))
    draw = torch.Generator().manual_seed(1)
    along_hidden = torch.randn(N, H, dtype=torch.float64, generator=draw)
    along_weight = torch.randn(V, H, dtype=torch.float64, generator=draw)
    ends = []
    for step in (1e-6, -1e-6):
        moved = (hidden + step * along_hidden).detach().requires_grad_(True)
        turned = (weight + step * along_weight).detach().requires_grad_(True)
        ends.append(float(_run(ours, (moved, turned, labels, text_weights), called=called)[0]))
    slope = float((grad_hidden * along_hidden).sum() + (grad_weight * along_weight).sum())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_weights_of_one_and_no_unlikely_tokens_are_stage_1(called):
    """Ones instead of no weights, and an empty list instead of none, change not one bit."""
    ours = objective([name for name in WEIGHTS if name != "unlikelihood"])
    results = []
    for extras in ({}, _extras(torch.ones(N), NOTHING)):
        hidden, weight, labels, _ = problem(dtype=torch.float32)
        counts = ours.counts(labels, BOXES, **extras)
        head = (lambda rows, w=weight: rows @ w.T) if called else weight
        loss, _ = ours.compute(hidden, head, labels, counts, box_slots_M4=BOXES, **extras)
        loss.backward()
        results.append((counts, loss, hidden.grad, weight.grad))
    assert results[0][0] == results[1][0]
    assert all(type(count) is int for count in results[0][0].values())
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_text_of_weight_0_is_as_if_it_were_not_supervised(called):
    """It counts nowhere, has no gradient, and the head never sees it; NaN there reaches nothing."""
    hidden, weight, labels, text_weights = problem()
    is_out = (text_weights == 0) & (labels >= 0) & ~torch.isin(labels, COORD_IDS)
    assert int(is_out.sum()) == 3
    blank = labels.masked_fill(is_out, -100)
    expected = _run(objective(), (hidden, weight, blank, text_weights), called=called)
    again, weight, *_ = problem()
    with torch.no_grad():
        again[is_out] = math.nan
    got = _run(objective(), (again, weight, labels, text_weights), called=called)
    assert torch.equal(got[0], expected[0])
    for name, term in got[1].items():
        assert torch.equal(term.loss_sum, expected[1][name].loss_sum)
        assert term.num_tokens == expected[1][name].num_tokens
    assert torch.equal(got[2], expected[2])
    assert torch.equal(got[3], expected[3])
    rows = []
    objective(["text_ce"]).compute(
        hidden, lambda r: rows.append(len(r)) or r @ weight.T, labels, {"text_ce": 1},
        text_weights_N=text_weights,
    )  # fmt: skip
    assert sum(rows) == int(((labels >= 0) & ~is_out & ~torch.isin(labels, COORD_IDS)).sum())


@pytest.mark.parametrize("names", [["text_ce", "text_gate", "unlikelihood"], ["unlikelihood"]])
@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_nothing_of_weight_gives_0_and_no_gradient(called, names):
    """With all weights 0 and no unlikely token every term is 0 and still part of the graph."""
    ours = objective(names)
    hidden, weight, labels, _ = problem()
    loss, terms, grad_hidden, grad_weight = _run(
        ours, (hidden, weight, labels, torch.zeros(N)), called=called, unlikely=NOTHING
    )
    assert float(loss) == 0
    assert all(float(t.loss_sum) == 0 == t.num_tokens for t in terms.values())
    assert all(float(t.mean) == 0 for t in terms.values())
    assert grad_hidden.abs().max() == grad_weight.abs().max() == 0


def test_weights_that_add_up_to_less_than_1_still_give_a_mean():
    """Weights scaled by any factor give the same loss and gradient."""
    results = []
    for scale in (1.0, 1e-4, 1e4):
        hidden, weight, labels, text_weights = problem()
        ours = objective(["text_ce"])
        results.append(_run(ours, (hidden, weight, labels, text_weights.double() * scale)))
        assert results[-1][1]["text_ce"].num_tokens == pytest.approx(
            scale * results[0][1]["text_ce"].num_tokens
        )
        term = results[-1][1]["text_ce"]
        assert float(term.mean) == pytest.approx(float(results[0][1]["text_ce"].mean))
    assert results[0][1]["text_ce"].num_tokens > 1
    for other in results[1:]:
        for one, same in zip(results[0][:1] + results[0][2:], other[:1] + other[2:], strict=True):
            torch.testing.assert_close(one, same, rtol=1e-6, atol=1e-12)


def test_slots_and_unsupervised_rows_ignore_their_weights():
    """Whatever stands there, the result is the same bit for bit."""
    hidden, weight, labels, text_weights = problem()
    one = _run(objective(), (hidden, weight, labels, text_weights))
    again, weight, *_ = problem()
    other_weights = text_weights.clone()
    other_weights[torch.isin(labels, COORD_IDS) | (labels < 0)] = 17.0
    two = _run(objective(), (again, weight, labels, other_weights))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[2], two[2])
    assert torch.equal(one[3], two[3])


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_parts_of_a_batch_add_up_to_the_whole(called):
    """Micro-batches and processes, one of them empty, with the whole's counts give its loss."""
    whole = _run(objective(), problem(), called=called)
    hidden, weight, labels, text_weights = problem()
    ours = objective(chunk=3)
    head = (lambda rows: rows @ weight.T) if called else weight
    parts, counts = [], dict.fromkeys(WEIGHTS, 0)
    for low, high in ((0, 9), (9, 9), (9, 20), (20, N)):
        inside = (UNLIKELY[:, 0] >= low) & (UNLIKELY[:, 0] < high)
        boxes = BOXES[(BOXES.amin(1) >= low) & (BOXES.amax(1) < high)] - low
        extras = _extras(text_weights[low:high], UNLIKELY[inside] - torch.tensor([low, 0]))
        parts.append((slice(low, high), {"box_slots_M4": boxes, **extras}))
        one = ours.counts(labels[low:high], boxes, **extras)
        counts = {name: counts[name] + one[name] for name in counts}
    assert counts == pytest.approx(ours.counts(labels, BOXES, **_extras(text_weights)))
    total = 0.0
    for rows, given in parts:
        loss, _ = ours.compute(hidden[rows], head, labels[rows], counts, **given)
        loss.backward()
        total += float(loss.detach())
    assert total == pytest.approx(float(whole[0]), rel=1e-6)
    torch.testing.assert_close(hidden.grad, whole[2], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(weight.grad, whole[3], rtol=1e-6, atol=1e-9)


def test_joint_ce_divides_by_the_weights_of_text_and_the_slots_together():
    """pure_ce with weights: (sum of w ce + sum of coordinate ce) / (sum of w + slots)."""
    hidden, weight, labels, text_weights = problem()
    ours = Stage1Objective.from_config(ObjectiveConfig(preset="pure_ce"), COORD_IDS, chunk=5)
    counts = ours.counts(labels, text_weights_N=text_weights)
    sums, exact = reference(hidden, weight, labels, text_weights, NOTHING)
    both = exact["text_ce"] + exact["hard_ce"]
    assert ours.divisors(counts) == pytest.approx({"text_ce": both, "hard_ce": both})
    loss, _ = ours.compute(
        hidden, weight, labels, ours.divisors(counts), text_weights_N=text_weights
    )
    expected = float((sums["text_ce"] + sums["hard_ce"]).detach()) / both
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_in_the_product_alone(half, called):
    """Under autocast the loss is that of the half-precision logits, float32 from there on."""
    given = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=half):
        loss, _, grad_hidden, grad_weight = _run(objective(), given, called=called)
    assert loss.dtype == grad_hidden.dtype == grad_weight.dtype == torch.float32
    hidden, weight, labels, text_weights = given
    logits = nn.functional.linear(hidden.detach().to(half), weight.detach().to(half)).double()
    sums, counts = reference(logits, torch.eye(V), labels, text_weights, UNLIKELY)
    expected = sum(WEIGHTS[name] * float(sums[name]) / counts[name] for name in WEIGHTS)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    exact = _run(objective(), problem(dtype=torch.float32))
    for got, true in ((grad_hidden, exact[2]), (grad_weight, exact[3])):
        assert float((got - true).norm() / true.norm()) < 0.02


def test_bfloat16_parameters_get_bfloat16_gradients_of_float32_arithmetic():
    """bfloat16 in, float32 loss, gradients in the parameters' types near the exact ones."""
    loss, _, grad_hidden, grad_weight = _run(objective(), problem(dtype=torch.bfloat16))
    exact = _run(objective(), problem())
    assert loss.dtype == torch.float32
    assert grad_hidden.dtype == grad_weight.dtype == torch.bfloat16
    for got, true in ((grad_hidden, exact[2]), (grad_weight, exact[3])):
        assert float((got.double() - true).norm() / true.norm()) < 0.03


def test_called_heads_see_the_unlikely_rows_at_the_end():
    """Chunks of unlikely tokens are calls of their own, and none where the term has no weight."""
    hidden, weight, labels, text_weights = problem()
    extras, seen = _extras(text_weights), []

    def head(rows):
        seen.append(len(rows))
        return rows @ weight.T

    without = [name for name in WEIGHTS if name != "unlikelihood"]
    for ours in (objective(without, chunk=3), objective(chunk=3)):
        counts = ours.counts(labels, BOXES, **extras)
        ours.compute(hidden, head, labels, counts, box_slots_M4=BOXES, **extras)
    alone = (len(seen) - 3) // 2
    assert seen[alone:-3] == seen[:alone]
    assert seen[-3:] == [3, 3, 1]


def test_observers_see_neither_text_of_weight_0_nor_unlikely_rows():
    """What is observed are the supervised positions that count, once each."""
    hidden, weight, labels, text_weights = problem()
    seen = []
    for called in (False, True):
        _run(
            objective(),
            (hidden, weight, labels, text_weights),
            called=called,
            observe=lambda rows, _: seen.append(rows.clone()),
        )
        expected = (labels >= 0) & (torch.isin(labels, COORD_IDS) | (text_weights > 0))
        assert sorted(torch.cat(seen).tolist()) == torch.nonzero(expected)[:, 0].tolist()
        seen.clear()


def test_gradients_of_the_terms_alone_add_up():
    """`only` knows the weighted and the unlikely terms; the parts make the whole."""
    whole = _run(objective(), problem())
    total = torch.zeros_like(whole[2])
    for name in WEIGHTS:
        alone = _run(objective().only(name), problem())
        assert list(alone[1]) == [name]
        torch.testing.assert_close(alone[1][name].loss_sum, whole[1][name].loss_sum)
        total += alone[2]
    torch.testing.assert_close(total, whole[2], rtol=1e-6, atol=1e-9)


def test_counts_take_batches_of_any_shape():
    """(B, L) labels and weights count as flat ones do; what is not given counts 0."""
    _, _, labels, text_weights = problem()
    ours = objective()
    flat = ours.counts(labels, BOXES, **_extras(text_weights))
    square = _extras(text_weights.reshape(3, -1))
    assert ours.counts(labels.reshape(3, -1), BOXES, **square) == flat
    assert flat["unlikelihood"] == len(UNLIKELY)
    assert flat["text_gate"] == 8
    assert ours.counts(labels)["unlikelihood"] == 0
    assert ours.counts(labels)["text_ce"] == 12
    ends = torch.tensor([END_ID, END_ID])
    assert ours.counts(ends, text_weights_N=torch.tensor([0.25, 0.5]))["text_ce"] == 0.75


def test_misuse_of_weights_and_unlikely_tokens_is_refused():
    """Wrong shapes, negative or infinite weights, rows and tokens outside: ValueError each."""
    hidden, weight, labels, text_weights = problem()
    ours = objective()
    for bad in (-0.5, math.nan, math.inf):
        for row in (0, 6, 18):  # unsupervised, text, slot
            changed = text_weights.clone()
            changed[row] = bad
            with pytest.raises(ValueError, match="finite and not negative"):
                ours.counts(labels, text_weights_N=changed)
            with pytest.raises(ValueError, match="finite and not negative"):
                ours.compute(hidden, weight, labels, WEIGHTS, text_weights_N=changed)
    with pytest.raises(ValueError, match="text weights of shape"):
        ours.counts(labels, text_weights_N=text_weights[1:])
    for pairs, match in (
        ([[N, 1]], "outside"),
        ([[-1, 1]], "outside"),
        ([[0, V]], "vocabulary"),
        ([[0, -2]], "vocabulary"),
        ([[0, 1, 2]], "pairs"),
        ([[0.0, 1.0]], "pairs"),
    ):
        with pytest.raises(ValueError, match=match):
            ours.compute(hidden, weight, labels, WEIGHTS, unlikely_U2=torch.tensor(pairs))
