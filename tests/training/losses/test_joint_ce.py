"""The preset `pure_ce` is the ordinary cross-entropy, however a window is cut into batches."""

import pytest
import torch
from torch.nn import functional

from coordeval.training.config import ObjectiveConfig
from coordeval.training.losses.objective import Stage1Objective

V, H, COORDS = 40, 6, list(range(25, 35))


def batch(num_text, num_coords, seed):
    """Hidden states and shuffled labels of so many text tokens and coordinates."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [
            torch.randint(0, 25, (num_text,), generator=draw),
            torch.randint(25, 35, (num_coords,), generator=draw),
        ]
    )
    order = torch.randperm(len(labels), generator=draw)
    return torch.randn(len(labels), H, generator=draw), labels[order]


@pytest.mark.parametrize("cuts", [[(7, 5)], [(7, 0), (0, 5)], [(1, 4), (6, 1)]])
def test_pure_ce_is_one_mean_over_all_supervised_tokens(cuts):
    """Loss and gradient equal torch's cross-entropy over the whole window, in float64."""
    head = torch.randn(V, H, generator=torch.Generator().manual_seed(9))
    objective = Stage1Objective.from_config(ObjectiveConfig(preset="pure_ce"), COORDS)
    parts = [batch(*cut, seed) for seed, cut in enumerate(cuts)]
    counts = dict.fromkeys(objective.denominator_names, 0)
    for _, labels in parts:
        for name, count in objective.counts(labels).items():
            counts[name] += count
    divisors = objective.divisors(counts)
    hidden = torch.cat([states for states, _ in parts]).double().requires_grad_(True)
    labels = torch.cat([one for _, one in parts])
    expected = functional.cross_entropy(hidden @ head.double().T, labels)
    expected.backward()
    total, gradients = 0.0, []
    for states, one in parts:
        leaf = states.clone().requires_grad_(True)
        loss, _ = objective.compute(leaf, head, one, divisors)
        loss.backward()
        total += float(loss.detach())
        gradients.append(leaf.grad)
    assert total == pytest.approx(float(expected.detach()), rel=1e-6)
    assert torch.allclose(torch.cat(gradients).double(), hidden.grad, rtol=1e-5, atol=1e-7)


def test_other_presets_divide_each_term_by_its_own_count():
    """Only pure_ce shares a divisor: the weights of other presets mean the same for any answer."""
    counts = {"text_ce": 9, "hard_ce": 4, "soft_ce": 4, "w1": 4, "gate": 4}
    mixed = Stage1Objective.from_config(ObjectiveConfig(preset="mixed"), COORDS)
    assert mixed.divisors(counts) == counts
    pure = Stage1Objective.from_config(ObjectiveConfig(preset="pure_ce"), COORDS)
    assert pure.divisors({"text_ce": 9, "hard_ce": 4}) == {"text_ce": 13, "hard_ce": 13}
