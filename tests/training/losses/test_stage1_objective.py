"""The stage-1 objective: values, gradients, chunks, denominators, heads, types, nothing to learn."""

import copy
import math
import warnings

import pytest
import torch
from naive_objective import naive_terms
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from coordeval.training.config import PRESETS, BoxLossConfig, ObjectiveConfig
from coordeval.training.losses import (
    Stage1Objective,
    gate,
    gaussian_target,
    hard_ce,
    soft_ce,
    text_ce,
    text_gate,
    w1,
)

V, K, H, N = 90, 40, 6, 44
WEIGHTS = {
    "text_ce": 1.0,
    "text_gate": 0.3,
    "hard_ce": 0.5,
    "soft_ce": 2.0,
    "w1": 3.0,
    "gate": 1.5,
    "smooth_l1": 2.0,
    "ciou": 1.0,
    "giou": 0.7,
}
COORD_IDS = torch.randperm(V, generator=torch.Generator().manual_seed(5))[:K]
TEXT_IDS = torch.tensor([i for i in range(V) if i not in set(COORD_IDS.tolist())])
END_ID = int(TEXT_IDS[0])
BOXES = torch.tensor([[20, 21, 22, 23], [31, 29, 30, 28], [36, 37, 38, 39]])


def _problem(seed=0, dtype=torch.float32, scale=1.0):
    """Hidden states, head and labels: prompt, text with two end tokens, 3 boxes, 6 lone slots."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, H, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(V, H, generator=generator, dtype=torch.float64)
    labels = torch.full((N,), -100)
    labels[4:20] = TEXT_IDS[1 + torch.randint(0, len(TEXT_IDS) - 1, (16,), generator=generator)]
    labels[[9, 19]] = END_ID
    labels[20:42] = COORD_IDS[torch.randint(0, K, (22,), generator=generator)]
    labels[[24, 25, 32, 33]] = -100
    for x1, y1, x2, y2 in BOXES.tolist():
        labels[x1], labels[x2] = COORD_IDS[3], COORD_IDS[21]
        labels[y1], labels[y2] = COORD_IDS[8], COORD_IDS[33]
    return hidden.to(dtype).requires_grad_(True), weight.to(dtype).requires_grad_(True), labels


def _objective(weights=None, **options):
    box = {
        name: options.pop(name) for name in ("decode", "box_temperature", "beta") if name in options
    }
    box["temperature"] = box.pop("box_temperature", 1.0)
    return Stage1Objective(
        WEIGHTS if weights is None else weights,
        COORD_IDS,
        box=BoxLossConfig(**box),
        end_ids=[END_ID],
        **options,
    )


def _run(
    objective, head=None, *, seed=0, dtype=torch.float32, boxes=BOXES, denominators=None, **more
):
    hidden, weight, labels = _problem(seed, dtype)
    counts = objective.counts(labels, boxes)
    loss, terms = objective.compute(
        hidden,
        weight if head is None else head(weight),
        labels,
        counts if denominators is None else denominators,
        box_slots_M4=boxes,
        **more,
    )
    loss.backward()
    return loss.detach(), terms, hidden.grad, weight.grad


VARIANTS = [
    {},
    {"temperature": 0.7, "sigma": 1.5, "truncate": 8},
    {"hard_ce_over": "coordinates", "truncate": None},
    {"decode": "straight_through", "box_temperature": 0.6, "beta": 0.05},
    {"decode": "argmax", "temperature": 1.9},
    {"temperature": 0.7, "without": "text_gate"},
]


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
@pytest.mark.parametrize("options", VARIANTS)
def test_values_and_gradients_equal_a_plain_float64_objective(options, called, chunk):
    """Every term to 1e-6, loss and both gradients too, whatever the chunk, temperature and head."""
    options = dict(options)
    without = options.pop("without", None)
    weights = {name: weight for name, weight in WEIGHTS.items() if name != without}
    objective = _objective(weights, **options, chunk=chunk)
    head = (lambda weight: lambda rows: rows @ weight.T) if called else None
    loss, terms, grad_hidden, grad_weight = _run(objective, head)
    # The plain objective starts from the same float32 numbers.
    hidden, weight, labels = _problem()
    hidden, weight = (t.detach().double().requires_grad_(True) for t in (hidden, weight))
    sums = naive_terms(
        hidden @ weight.T, labels, COORD_IDS, boxes=BOXES, end_ids=(END_ID,), **options
    )
    counts = objective.counts(labels, BOXES)
    every = {"text_ce": 16, "text_gate": 14}
    every |= dict.fromkeys(("hard_ce", "soft_ce", "w1", "gate"), 18)
    every |= dict.fromkeys(("smooth_l1", "ciou", "giou"), 3)
    assert counts == {name: every[name] for name in weights}
    assert tuple(terms) == objective.denominator_names == tuple(weights)
    for name, term in terms.items():
        assert term.num_tokens == counts[name]
        assert not term.loss_sum.requires_grad
        assert float(term.loss_sum) == pytest.approx(float(sums[name].detach()), rel=1e-6), name
    expected = sum(weights[name] * sums[name] / counts[name] for name in weights)
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(grad_hidden.double(), hidden.grad, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(grad_weight.double(), weight.grad, rtol=1e-4, atol=2e-6)
    assert grad_hidden[labels == -100].abs().max() == 0


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_each_term_alone_equals_the_plain_one_in_float64(name):
    """In float64 a term by itself agrees to 1e-12, its gradient to 1e-10, also by finite steps."""
    objective = _objective({name: 1.0, "smooth_l1": float(name == "smooth_l1")}, temperature=0.8)
    loss, _, grad_hidden, grad_weight = _run(objective, dtype=torch.float64, denominators={name: 7})
    hidden, weight, labels = _problem(dtype=torch.float64)

    def plain(h, w):
        logits = h @ w.T
        sums = naive_terms(
            logits, labels, COORD_IDS, boxes=BOXES, end_ids=(END_ID,), temperature=0.8
        )
        return sums[name] / 7

    expected = plain(hidden, weight)
    expected.backward()
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(grad_hidden, hidden.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(grad_weight, weight.grad, rtol=1e-9, atol=1e-12)
    if name == "ciou":  # its gradient holds alpha fixed, finite steps do not
        return
    direction = torch.randn(N, H, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = []
    for sign in (1, -1):
        moved = (hidden + sign * 1e-6 * direction).detach()
        value, _ = objective.compute(moved, weight.detach(), labels, {name: 7}, box_slots_M4=BOXES)
        ends.append(float(value))
    slope = (ends[0] - ends[1]) / 2e-6
    assert slope == pytest.approx(float((grad_hidden * direction).sum()), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 16, 33, 1000])
def test_chunks_change_nothing(chunk, temperature):
    """Loss, sums and gradients are those of one chunk to float32 rounding; no box is cut."""
    whole = _run(_objective(temperature=temperature))
    cut = _run(_objective(temperature=temperature, chunk=chunk))
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-6, atol=0)
    for name, term in whole[1].items():
        torch.testing.assert_close(cut[1][name].loss_sum, term.loss_sum, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(cut[2:], whole[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_presets_are_what_the_pure_terms_say():
    """pure_ce, soft and mixed equal the weighted means of the public terms on the same logits."""
    hidden, weight, labels = _problem()
    logits = (hidden @ weight.T).detach()
    bin_of = {int(t): k for k, t in enumerate(COORD_IDS)}
    slot = torch.tensor([int(t) in bin_of for t in labels])
    text = (labels != -100) & ~slot
    bins = torch.tensor([bin_of[int(t)] for t in labels[slot]])
    target = gaussian_target(bins, sigma=2.0, truncate=16, num_bins=K)
    coord = logits[slot][:, COORD_IDS]
    parts = {
        "hard_ce": text_ce(logits[slot], labels[slot]).mean,
        "soft_ce": soft_ce(coord, target).mean,
        "w1": w1(coord, target).mean,
        "gate": gate(logits[slot], COORD_IDS).mean,
    }
    for preset, weights in PRESETS.items():
        objective = Stage1Objective.from_config(ObjectiveConfig(preset=preset), COORD_IDS)
        assert set(objective.denominator_names) == {"text_ce"} | {
            n for n, w in weights.items() if w
        }
        loss, _ = objective.compute(hidden, weight, labels, objective.counts(labels))
        expected = text_ce(logits[text], labels[text]).mean
        expected = expected + sum(w * parts[name] for name, w in weights.items())
        torch.testing.assert_close(loss.detach(), expected)
    sliced = Stage1Objective({"hard_ce": 1.0}, COORD_IDS, hard_ce_over="coordinates")
    loss, _ = sliced.compute(hidden, weight, labels, {"hard_ce": 1})
    torch.testing.assert_close(loss.detach(), hard_ce(coord, bins).loss_sum)


def test_pure_ce_has_the_gradient_of_cross_entropy():
    """With one denominator for both kinds of token pure CE is plain cross-entropy over all labels."""
    hidden, weight, labels = _problem()
    objective = Stage1Objective.from_config(ObjectiveConfig(preset="pure_ce"), COORD_IDS, chunk=6)
    supervised = int((labels != -100).sum())
    denominators = dict.fromkeys(objective.denominator_names, supervised)
    loss, _ = objective.compute(hidden, weight, labels, denominators)
    loss.backward()
    plain_hidden, plain_weight, _ = _problem()
    plain = nn.functional.cross_entropy(plain_hidden @ plain_weight.T, labels)
    plain.backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(hidden.grad, plain_hidden.grad)
    torch.testing.assert_close(weight.grad, plain_weight.grad)


def test_denominators_and_weights_scale_each_term_by_itself():
    """The loss is the sum of weight * sum / denominator, also below 1; 0 divides by 1."""
    counts = dict(zip(WEIGHTS, (31, 7, 250, 3, 11, 0, 2.5, 0.25, 8), strict=True))
    loss, terms, *_ = _run(_objective(), denominators=counts)
    expected = sum(
        WEIGHTS[name] * float(term.loss_sum) / (counts[name] or 1) for name, term in terms.items()
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    doubled = {name: 2 * weight for name, weight in WEIGHTS.items()}
    twice = _run(_objective(doubled), denominators=counts)
    torch.testing.assert_close(twice[0], 2 * loss)
    torch.testing.assert_close(twice[3], 2 * _run(_objective(), denominators=counts)[3])


def test_splitting_a_batch_changes_nothing():
    """Two halves with the whole's denominators add up to the whole: loss and both gradients."""
    objective = _objective()
    whole = _run(objective)
    hidden, weight, labels = _problem()
    denominators = objective.counts(labels, BOXES)
    half_counts, total = [], 0.0
    for rows, boxes in ((slice(0, 26), BOXES[:1]), (slice(26, N), BOXES[1:] - 26)):
        half_counts.append(objective.counts(labels[rows], boxes))
        loss, _ = objective.compute(
            hidden[rows], weight, labels[rows], denominators, box_slots_M4=boxes
        )
        loss.backward()
        total += float(loss.detach())
    assert {n: half_counts[0][n] + half_counts[1][n] for n in WEIGHTS} == denominators
    assert total == pytest.approx(float(whole[0]), rel=1e-6)
    torch.testing.assert_close(hidden.grad, whole[2])
    torch.testing.assert_close(weight.grad, whole[3])


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
@pytest.mark.parametrize("kind", ["nothing", "no_rows", "text_only", "slots_only"])
def test_nothing_to_learn_from_is_zero_with_a_graph(kind, called):
    """Without supervised tokens, slots or boxes the missing terms are 0 and gradients are finite."""
    hidden, weight, labels = _problem()
    with torch.no_grad():
        hidden[labels == -100] = math.nan  # the prompt reaches nothing
    rows = slice(0, 0) if kind == "no_rows" else slice(None)
    labels = labels.clone()
    if kind == "nothing":
        labels[:] = -100
    elif kind == "text_only":
        labels[20:] = -100
    elif kind == "slots_only":
        labels[:20] = -100
    boxes = None if kind != "no_rows" else BOXES[:0]
    objective = _objective()
    denominators = objective.counts(labels[rows], boxes)
    head = (lambda r: r @ weight.T) if called else weight
    loss, terms = objective.compute(
        hidden[rows], head, labels[rows], denominators, box_slots_M4=boxes
    )
    loss.backward()
    for grad in (hidden.grad, weight.grad):
        assert grad is not None
        assert torch.isfinite(grad).all()
    if kind in ("nothing", "no_rows"):
        assert float(loss.detach()) == 0.0
        assert hidden.grad.abs().max() == weight.grad.abs().max() == 0
        assert all(float(t.loss_sum) == 0 == t.num_tokens for t in terms.values())
    else:
        assert float(loss.detach()) > 0
        assert float(terms["ciou"].loss_sum) == terms["ciou"].num_tokens == 0


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_extreme_logits_are_survived(called, temperature):
    """Logits of 1e4, and -inf at tokens no label names, give finite losses and gradients."""
    labels = torch.stack([TEXT_IDS[3], COORD_IDS[5], TEXT_IDS[4], COORD_IDS[0]])
    logits = torch.zeros(4, V)
    logits[0, COORD_IDS[7]], logits[1, TEXT_IDS[9]] = 1e4, 1e4
    logits[2, TEXT_IDS[4]], logits[3, COORD_IDS[0]] = 1e4, 1e4
    bias = torch.zeros(V)
    bias[[int(TEXT_IDS[20]), int(COORD_IDS[30])]] = -math.inf
    head = nn.Linear(4, V)
    head.weight = nn.Parameter(logits.T.clone())
    head.bias = nn.Parameter(bias)
    weights = dict.fromkeys(("text_ce", "text_gate", "gate", "hard_ce"), 1.0)
    objective = _objective(weights, temperature=temperature)
    loss, terms = objective.compute(
        torch.eye(4), _Wrapped(head) if called else head, labels, objective.counts(labels)
    )
    loss.backward()
    assert torch.isfinite(head.weight.grad).all()
    assert torch.isfinite(head.bias.grad).all()
    sums = {name: float(term.loss_sum) for name, term in terms.items()}
    others, coords = len(TEXT_IDS) - 1, K - 1
    assert sums == pytest.approx(
        {
            "text_ce": 1e4,
            "text_gate": 1e4 / temperature - math.log(others),
            "hard_ce": 1e4,
            "gate": 1e4 / temperature - math.log(coords),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_rows_of_impossible_text_are_survived(called):
    """A slot where every other token is at -inf leaks exactly nothing; its gradient is finite."""
    head = nn.Linear(2, V)
    head.weight = nn.Parameter(torch.zeros(V, 2))
    head.bias = nn.Parameter(torch.zeros(V))
    with torch.no_grad():
        head.bias[TEXT_IDS] = -math.inf
    objective = _objective({"gate": 1.0, "hard_ce": 1.0}, temperature=0.5)
    loss, terms = objective.compute(
        torch.ones(3, 2),
        _Wrapped(head) if called else head,
        COORD_IDS[:3],
        {"gate": 3, "hard_ce": 3},
    )
    loss.backward()
    assert float(terms["gate"].loss_sum) == 0.0
    assert float(terms["hard_ce"].loss_sum) == pytest.approx(3 * math.log(K), rel=1e-6)
    assert torch.isfinite(head.weight.grad).all()
    assert torch.isfinite(head.bias.grad).all()


def test_small_leaks_are_not_rounded_away():
    """A leak of e^-25 keeps its value and gradient in both gates."""
    matrix = torch.full((V, 2), -1e4)
    matrix[COORD_IDS[1], 0], matrix[END_ID, 0] = 25.0, 0.0
    matrix[COORD_IDS[1], 1], matrix[TEXT_IDS[1], 1] = 0.0, 25.0
    matrix.requires_grad_(True)
    labels = torch.stack([COORD_IDS[1], TEXT_IDS[1]])
    objective = _objective({"gate": 1.0, "text_gate": 1.0})
    loss, terms = objective.compute(torch.eye(2), matrix, labels, objective.counts(labels))
    loss.backward()
    for name in ("gate", "text_gate"):
        assert float(terms[name].loss_sum) == pytest.approx(math.exp(-25), rel=1e-5)
    assert float(matrix.grad[END_ID, 0]) == pytest.approx(math.exp(-25), rel=1e-5)
    assert float(matrix.grad[COORD_IDS[1], 1]) == pytest.approx(math.exp(-25), rel=1e-5)


def test_text_gate_equals_its_closed_form():
    """The public term is log 2 at one half, keeps tiny leaks, and grows past the usual floor."""
    logits = torch.full((3, V), -1e9)
    logits[0, [int(COORD_IDS[0]), END_ID]] = 1.0
    logits[1, COORD_IDS[0]], logits[1, END_ID] = -25.0, 0.0
    logits[2, COORD_IDS[0]], logits[2, END_ID] = 40.0, 0.0
    got = [float(text_gate(logits[i : i + 1], COORD_IDS).loss_sum) for i in range(3)]
    assert got == pytest.approx([math.log(2), math.exp(-25), 40.0], rel=1e-5)
    mask = torch.tensor([True, False, True])
    assert text_gate(logits, COORD_IDS, mask_N=mask).num_tokens == 2
    assert float(text_gate(logits, COORD_IDS, temperature=4.0, mask_N=~mask).mean) == pytest.approx(
        math.log1p(math.exp(-6.25)), rel=1e-5
    )
    with pytest.raises(ValueError, match="temperature"):
        text_gate(logits, COORD_IDS, temperature=0)
    with pytest.raises(ValueError, match="no text"):
        text_gate(logits[:, COORD_IDS], torch.arange(K))


def _bias_head(weight):
    linear = nn.Linear(H, V)
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(torch.linspace(-1, 1, V))
    return linear


class _Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, rows):
        return self.inner(rows)


@pytest.mark.parametrize("chunk", [None, 5])
def test_linear_modules_with_bias_and_wrapped_ones_agree(chunk):
    """nn.Linear is read as its matrix, a wrapper is called; the gradients are the same."""
    hidden, weight, labels = _problem()
    objective = _objective(chunk=chunk)
    results = []
    for wrap in (False, True):
        linear = _bias_head(weight)
        leaf = hidden.detach().clone().requires_grad_(True)
        head = _Wrapped(linear) if wrap else linear
        loss, _ = objective.compute(
            leaf, head, labels, objective.counts(labels, BOXES), box_slots_M4=BOXES
        )
        loss.backward()
        results.append((loss.detach(), leaf.grad, linear.weight.grad, linear.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_stands_between_a_linear_head_and_its_weight_is_not_skipped():
    """Hooks, parametrizations and replaced forwards take part in the loss."""
    hidden, weight, labels = _problem()
    objective = _objective()

    def value(head):
        counts = objective.counts(labels, BOXES)
        return float(objective.compute(hidden, head, labels, counts, box_slots_M4=BOXES)[0])

    with torch.no_grad():
        plain = _bias_head(weight)
        halved = copy.deepcopy(plain)
        halved.weight.mul_(0.5)
        halved.bias.mul_(0.5)
        expected = value(halved)
        assert expected != pytest.approx(value(plain), rel=1e-3)
        hooked = copy.deepcopy(plain)
        hooked.register_forward_hook(lambda _module, _args, out: out * 0.5)
        assert value(hooked) == pytest.approx(expected, rel=1e-5)
        replaced = copy.deepcopy(plain)
        replaced.forward = lambda rows: plain(rows) * 0.5
        assert value(replaced) == pytest.approx(expected, rel=1e-5)

        class Half(nn.Module):
            def forward(self, value):
                return value * 0.5

        parametrized = copy.deepcopy(plain)
        parametrize.register_parametrization(parametrized, "weight", Half())
        parametrize.register_parametrization(parametrized, "bias", Half())
        assert value(parametrized) == pytest.approx(expected, rel=1e-5)


def test_frozen_parts_get_no_gradient_and_the_others_are_right():
    """Hidden states alone, or head alone: the other's gradient is the same as with both."""
    objective = _objective(chunk=7)
    _, _, grad_hidden, grad_weight = _run(objective)
    for frozen in ("hidden", "weight"):
        hidden, weight, labels = _problem()
        (hidden if frozen == "hidden" else weight).requires_grad_(False)
        loss, _ = objective.compute(
            hidden, weight, labels, objective.counts(labels, BOXES), box_slots_M4=BOXES
        )
        loss.backward()
        got = (hidden.grad, weight.grad)
        assert (got[0] is None) == (frozen == "hidden")
        assert (got[1] is None) == (frozen == "weight")
        expected = grad_weight if frozen == "hidden" else grad_hidden
        torch.testing.assert_close(got[frozen == "hidden"], expected)


def test_without_gradients_the_value_is_the_same():
    """Under no_grad nothing has a graph and every number is as in training."""
    objective = _objective(chunk=9, temperature=0.6)
    loss, terms, *_ = _run(objective)
    hidden, weight, labels = _problem()
    for head in (weight, lambda rows: rows @ weight.T):
        with torch.no_grad():
            value, again = objective.compute(
                hidden, head, labels, objective.counts(labels, BOXES), box_slots_M4=BOXES
            )
        assert not value.requires_grad
        torch.testing.assert_close(value, loss)
        for name, term in terms.items():
            torch.testing.assert_close(again[name].loss_sum, term.loss_sum)


def test_tied_embeddings_add_both_gradients():
    """A matrix that embeds and predicts gets the sum of what autograd gives for each use."""
    _, weight, labels = _problem()
    tokens = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(2))
    objective = _objective(chunk=6)
    counts = objective.counts(labels, BOXES)
    grads = []
    for head in (lambda w: w, lambda w: lambda rows: rows @ w.T):
        table = weight.detach().clone().requires_grad_(True)
        hidden = torch.tanh(nn.functional.embedding(tokens, table))
        loss, _ = objective.compute(hidden, head(table), labels, counts, box_slots_M4=BOXES)
        loss.backward()
        grads.append(table.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [None, 6])
def test_bfloat16_weights_with_float32_arithmetic(chunk):
    """bfloat16 in: the float32 loss of the bfloat16 logits, gradients in their parameters' types."""
    hidden, weight, labels = _problem()
    half_hidden, half_weight = (
        t.detach().bfloat16().requires_grad_(True) for t in (hidden, weight)
    )
    objective = _objective(chunk=chunk)
    counts = objective.counts(labels, BOXES)
    loss, _ = objective.compute(half_hidden, half_weight, labels, counts, box_slots_M4=BOXES)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half_hidden.grad.dtype == half_weight.grad.dtype == torch.bfloat16
    logits = (half_hidden @ half_weight.T).detach().float().requires_grad_(True)
    sums = naive_terms(logits.double(), labels, COORD_IDS, boxes=BOXES, end_ids=(END_ID,))
    expected = sum(WEIGHTS[name] * sums[name] / counts[name] for name in WEIGHTS)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for got, exact in (
        (half_hidden.grad, logits.grad @ half_weight.detach().float()),
        (half_weight.grad, logits.grad.T @ half_hidden.detach().float()),
    ):
        scale = exact.abs().max()
        assert float((got.float() - exact).abs().max() / scale) < 0.01


def test_head_gradient_adds_up_in_float32_over_chunks():
    """Many bfloat16 chunks of equal gradient do not stall at 256 of them."""
    rows = 1200
    label = int(TEXT_IDS[1])
    hidden = torch.ones(rows, 1, dtype=torch.bfloat16)
    weight = torch.zeros(V, 1, dtype=torch.bfloat16, requires_grad=True)
    objective = Stage1Objective({"text_ce": 1.0}, COORD_IDS, chunk=1)
    loss, _ = objective.compute(hidden, weight, torch.full((rows,), label), {"text_ce": 1})
    loss.backward()
    assert float(weight.grad[label]) == pytest.approx(rows * (1 / V - 1), rel=0.01)


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_autocast_halves_the_product_and_nothing_else(called):
    """Under autocast the loss is that of the half-precision product, float32 from there on."""
    hidden, weight, labels = _problem()
    objective = _objective(chunk=6)
    counts = objective.counts(labels, BOXES)
    head = (lambda rows: nn.functional.linear(rows, weight)) if called else weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective.compute(hidden, head, labels, counts, box_slots_M4=BOXES)
    loss.backward()
    assert loss.dtype == hidden.grad.dtype == weight.grad.dtype == torch.float32
    logits = nn.functional.linear(hidden.detach().bfloat16(), weight.detach().bfloat16()).double()
    sums = naive_terms(logits, labels, COORD_IDS, boxes=BOXES, end_ids=(END_ID,))
    expected = sum(WEIGHTS[name] * float(sums[name]) / counts[name] for name in WEIGHTS)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    exact = _run(objective)
    for got, true in ((hidden.grad, exact[2]), (weight.grad, exact[3])):
        assert float((got - true).norm() / true.norm()) < 0.02


def test_the_gradient_is_scaled_from_above_and_can_be_taken_twice():
    """(3 * loss).backward() triples the gradient; a kept graph gives the same gradient again."""
    objective = _objective(chunk=8)
    _, _, grad_hidden, grad_weight = _run(objective)
    hidden, weight, labels = _problem()
    loss, _ = objective.compute(
        hidden, weight, labels, objective.counts(labels, BOXES), box_slots_M4=BOXES
    )
    (3 * loss).backward(retain_graph=True)
    torch.testing.assert_close(hidden.grad, 3 * grad_hidden)
    torch.testing.assert_close(weight.grad, 3 * grad_weight)
    again = torch.autograd.grad(loss, [hidden, weight])
    torch.testing.assert_close(again[0], grad_hidden)
    torch.testing.assert_close(again[1], grad_weight)


def test_scale_multiplies_the_loss_and_not_the_sums():
    """`scale` gives the same as multiplying afterwards; the terms' sums are left alone."""
    loss, terms, grad_hidden, grad_weight = _run(_objective())
    scaled, same, scaled_hidden, scaled_weight = _run(_objective(), scale=2.0)
    torch.testing.assert_close(scaled, 2 * loss)
    torch.testing.assert_close(scaled_hidden, 2 * grad_hidden)
    torch.testing.assert_close(scaled_weight, 2 * grad_weight)
    for name, term in terms.items():
        assert torch.equal(same[name].loss_sum, term.loss_sum)


def test_float16_does_not_lose_small_gradients_before_they_are_scaled():
    """Under float16 autocast a large denominator leaves the gradient its direction and size."""
    grads = []
    for size in (1.0, 1e9):
        hidden, weight, labels = _problem()
        counts = dict.fromkeys(WEIGHTS, size)
        with torch.autocast("cpu", dtype=torch.float16):
            loss, _ = _objective(chunk=9).compute(
                hidden, weight, labels, counts, box_slots_M4=BOXES
            )
        (loss * size).backward()
        grads.append((hidden.grad, weight.grad))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_second_derivative_is_refused():
    """Asking for a graph of the gradient raises instead of giving one without content."""
    hidden, weight, labels = _problem()
    objective = _objective()
    loss, _ = objective.compute(
        hidden, weight, labels, objective.counts(labels, BOXES), box_slots_M4=BOXES
    )
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_called_heads_are_called_on_every_supervised_row_once():
    """Chunk by chunk; without any row once, on none."""
    hidden, weight, labels = _problem()
    seen = _called_on(_objective(chunk=10), hidden, weight, labels)
    assert sum(seen) == int((labels != -100).sum())
    assert all(0 < rows <= 10 for rows in seen)
    assert _called_on(
        _objective(chunk=10), hidden, weight, labels.new_full(labels.shape, -100)
    ) == [0]


def _called_on(objective, hidden, weight, labels):
    """How many rows a called head is given, call by call."""
    seen = []

    def head(rows):
        seen.append(len(rows))
        return rows @ weight.T

    boxes = BOXES if (labels != -100).any() else None
    with torch.no_grad():
        counts = objective.counts(labels, boxes)
        objective.compute(hidden, head, labels, counts, box_slots_M4=boxes)
    return seen


@pytest.mark.parametrize("called", [False, True], ids=["linear", "called"])
def test_observers_see_every_worked_on_row_once(called):
    """Rows and logits are those of the head, each supervised position exactly once."""
    hidden, weight, labels = _problem()
    objective = _objective(chunk=7, temperature=0.5)
    rows, logits = [], []

    def observe(rows_n, logits_nV):
        assert not logits_nV.requires_grad
        rows.append(rows_n.clone())
        logits.append(logits_nV.clone())

    head = (lambda r: r @ weight.T) if called else weight
    loss, _ = objective.compute(hidden, head, labels, objective.counts(labels), observe=observe)
    loss.backward()
    order = torch.cat(rows)
    assert sorted(order.tolist()) == torch.nonzero(labels != -100)[:, 0].tolist()
    torch.testing.assert_close(torch.cat(logits), (hidden @ weight.T).detach()[order])


class _Watch(TorchDispatchMode):
    """Counts exponentials as wide as the vocabulary, and keeps the size of the largest tensor."""

    def __init__(self):
        super().__init__()
        self.largest = self.wide_exps = self.wide_products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if isinstance(out, torch.Tensor):
            self.largest = max(self.largest, out.numel())
            wide = out.ndim == 2 and out.shape[1] == V
            self.wide_exps += wide and name in ("exp", "exp_", "softmax", "_softmax", "logsumexp")
            self.wide_products += wide and name in ("mm", "addmm")
        return out


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_vocabulary_is_gone_through_once(temperature):
    """One product and one exponential per logit (two at another T), a chunk's logits at a time."""
    hidden, weight, labels = _problem()
    objective = _objective(chunk=8, temperature=temperature)
    counts = objective.counts(labels, BOXES)
    chunks = len(_called_on(objective, hidden, weight, labels))
    with _Watch() as watch:
        loss, _ = objective.compute(hidden, weight, labels, counts, box_slots_M4=BOXES)
        loss.backward()
    assert watch.wide_products == chunks
    assert watch.wide_exps == chunks * (1 if temperature == 1.0 else 2)
    assert watch.largest <= max(8 * V, V * H)


def test_nan_is_not_hidden():
    """A NaN in a supervised hidden state makes the loss NaN, so that training can stop."""
    for called in (False, True):
        hidden, weight, labels = _problem()
        with torch.no_grad():
            hidden[5] = math.nan
        objective = _objective()
        counts = objective.counts(labels, BOXES)
        head = (lambda rows, w=weight: rows @ w.T) if called else weight
        loss, _ = objective.compute(hidden, head, labels, counts, box_slots_M4=BOXES)
        assert math.isnan(float(loss.detach()))


def test_terms_can_be_looked_at_alone():
    """The gradients of the terms one by one add up to the gradient of the whole."""
    objective = _objective(temperature=0.7)
    _, terms, grad_hidden, _ = _run(objective)
    total = torch.zeros_like(grad_hidden)
    for name in objective.denominator_names:
        alone = _run(objective.only(name))
        assert list(alone[1]) == [name]
        torch.testing.assert_close(alone[1][name].loss_sum, terms[name].loss_sum)
        total += alone[2]
    torch.testing.assert_close(total, grad_hidden, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="without a weight"):
        objective.only("w2")


def test_counts_come_from_labels_alone():
    """Labels of any shape; ids that no table knows are text; a missing box list counts 0."""
    objective = _objective()
    _, _, labels = _problem()
    flat = objective.counts(labels, BOXES)
    assert objective.counts(labels.reshape(4, -1), BOXES) == flat
    assert objective.counts(labels)["ciou"] == 0
    beyond = objective.counts(torch.tensor([10**6, -100, int(COORD_IDS[0])]))
    assert (beyond["text_ce"], beyond["text_gate"], beyond["gate"]) == (1, 1, 1)
    assert set(objective.counts(torch.full((5,), -100)).values()) == {0}


def test_boxes_share_the_slots_that_stand_alone():
    """Box slots feed the terms on slots like any other slot, whether boxes are given or not."""
    objective = _objective()
    with_boxes = _run(objective)[1]
    without = _run(objective, boxes=None)[1]
    for name in ("hard_ce", "soft_ce", "w1", "gate", "text_ce", "text_gate"):
        torch.testing.assert_close(with_boxes[name].loss_sum, without[name].loss_sum)
    assert float(without["giou"].loss_sum) == 0


def test_a_vocabulary_of_coordinates_alone_leaks_nothing():
    """Where every token is a coordinate the gate is 0 and its gradient finite."""
    hidden, _, _ = _problem()
    matrix = torch.randn(K, H, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    labels = torch.arange(N) % K
    objective = Stage1Objective({"gate": 1.0, "hard_ce": 1.0}, torch.arange(K))
    for head in (matrix, lambda rows: rows @ matrix.T):
        loss, terms = objective.compute(hidden, head, labels, objective.counts(labels))
        loss.backward()
        assert float(terms["gate"].loss_sum) == 0.0
        assert torch.isfinite(matrix.grad).all()


def test_no_warning_is_raised():
    """Training on a called head, empty parts included, is silent."""
    hidden, weight, labels = _problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective = _objective()
        loss, _ = objective.compute(
            hidden.detach(), lambda rows: rows @ weight.T, labels, objective.counts(labels)
        )
        loss.backward()


def test_misuse_is_refused():
    """Unknown terms, bad settings, shapes, labels, boxes and denominators raise ValueError."""
    hidden, weight, labels = _problem()
    for weights, match in (
        ({"w2": 1.0}, "unknown terms: w2"),
        ({"w1": -1.0}, "not negative"),
        ({"w1": math.nan}, "finite"),
        ({"w1": 0.0}, "no loss term"),
    ):
        with pytest.raises(ValueError, match=match):
            Stage1Objective(weights, COORD_IDS)
    for options in ({"temperature": 0.0}, {"hard_ce_over": "all"}, {"chunk": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Stage1Objective({"w1": 1.0}, COORD_IDS, **options)
    with pytest.raises(ValueError, match="distinct"):
        Stage1Objective({"w1": 1.0}, [3, 4, 4])
    objective = _objective()
    counts = objective.counts(labels, BOXES)

    def compute(**changed):
        given = {
            "hidden": hidden,
            "head": weight,
            "labels": labels,
            "counts": counts,
            "boxes": BOXES,
        }
        given |= changed
        objective.compute(
            given["hidden"],
            given["head"],
            given["labels"],
            given["counts"],
            box_slots_M4=given["boxes"],
        )

    beyond, negative = labels.clone(), labels.clone()
    beyond[5], negative[5] = V, -1
    for changed, match in (
        ({"hidden": hidden[None]}, "hidden states"),
        ({"labels": labels[1:]}, "hidden states"),
        ({"labels": beyond}, "beyond"),
        ({"labels": negative}, "token ids"),
        ({"head": weight[:K]}, "beyond"),
        ({"counts": {"text_ce": 1}}, "no denominator for text_gate"),
        ({"counts": counts | {"w1": math.nan}}, "finite"),
        ({"boxes": BOXES + 5}, "outside|no coordinate"),
        ({"boxes": BOXES[:, :3]}, "four slots"),
        ({"boxes": torch.tensor([[4, 20, 21, 22]])}, "no coordinate label"),
        ({"boxes": BOXES[[0, 0]]}, "two boxes"),
    ):
        with pytest.raises(ValueError, match=match):
            compute(**changed)
