"""Sigma that narrows over a training: the path, its checks, and the objective that follows it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from weighted_problem import BOXES, COORD_IDS, objective, problem

from coordeval.errors import ConfigError
from coordeval.training.config import ObjectiveConfig
from coordeval.training.losses import Stage1Objective, sigma_at


@given(
    start=st.floats(0.1, 20),
    end=st.floats(0.1, 20),
    steps=st.integers(1, 500),
    step=st.integers(0, 1000),
)
def test_sigma_goes_geometrically_and_then_stays(start, end, steps, step):
    """Exactly both ends, the logarithm a line between them, at the end for ever."""
    config = ObjectiveConfig(sigma=start, sigma_end=end, sigma_steps=steps)
    assert sigma_at(config, 0) == start
    assert sigma_at(config, steps) == sigma_at(config, steps + step) == end
    share = min(step / steps, 1)
    line = (1 - share) * math.log(start) + share * math.log(end)
    assert math.log(sigma_at(config, step)) == pytest.approx(line, abs=1e-12)


def test_without_an_end_sigma_stays():
    """The default never changes, sigma 0 included; steps before the first are refused."""
    assert [sigma_at(ObjectiveConfig(), step) for step in (0, 7, 10**6)] == [2.0] * 3
    assert sigma_at(ObjectiveConfig(sigma=0.0), 5) == 0.0
    with pytest.raises(ValueError, match="from 0"):
        sigma_at(ObjectiveConfig(), -1)


@pytest.mark.parametrize(
    "options",
    [
        {"sigma_steps": 10},
        {"sigma_end": 1.0},
        {"sigma_end": 1.0, "sigma_steps": -1},
        {"sigma_end": 0.0, "sigma_steps": 10},
        {"sigma": 0.0, "sigma_end": 1.0, "sigma_steps": 10},
        {"sigma_end": math.nan, "sigma_steps": 10},
        {"sigma_end": -1.0, "sigma_steps": 10},
    ],
)
def test_half_a_path_is_refused(options):
    """An end without steps, steps without an end, and 0, which no factor reaches."""
    with pytest.raises(ConfigError, match="sigma"):
        ObjectiveConfig(**options)


def _value(ours):
    hidden, weight, labels, _ = problem()
    counts = ours.counts(labels, BOXES)
    loss, terms = ours.compute(hidden, weight, labels, counts, box_slots_M4=BOXES)
    loss.backward()
    return {name: float(term.loss_sum) for name, term in terms.items()}, hidden.grad


def test_an_objective_set_to_a_sigma_is_one_made_with_it():
    """Sums and gradients are the same bit for bit; what does not use sigma does not move."""
    ours = objective(sigma=3.0)
    before, _ = _value(ours)
    ours.set_sigma(0.7)
    assert ours.sigma == 0.7
    after, gradient = _value(ours)
    made, same_gradient = _value(objective(sigma=0.7))
    assert after == made
    assert torch.equal(gradient, same_gradient)
    assert {name for name in before if before[name] != after[name]} == {"soft_ce", "w1"}
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma"):
            ours.set_sigma(bad)
    assert ours.sigma == 0.7


def test_terms_looked_at_alone_follow_their_objective():
    """A part given out before the change is taken at the new sigma, and the other way round."""
    ours = objective(sigma=3.0)
    part = ours.only("soft_ce")
    ours.set_sigma(1.1)
    assert part.sigma == 1.1
    assert _value(part)[0]["soft_ce"] == _value(ours)[0]["soft_ce"]
    assert objective(sigma=3.0).sigma == 3.0


def test_a_change_before_the_backward_pass_reaches_the_next_loss_only():
    """A called head, whose chunks are computed again, keeps the sigma of its forward pass."""
    gradients = []
    for change in (False, True):
        hidden, weight, labels, _ = problem()
        ours = objective(sigma=2.0)
        loss, _ = ours.compute(
            hidden, lambda rows, w=weight: rows @ w.T, labels, ours.counts(labels)
        )
        if change:
            ours.set_sigma(0.5)
        loss.backward()
        gradients.append(hidden.grad)
    assert torch.equal(*gradients)


def test_a_configured_objective_starts_at_its_sigma():
    """`from_config` takes the first step's sigma; `truncate` stays what it is."""
    config = ObjectiveConfig(sigma=4.0, sigma_end=1.0, sigma_steps=8, truncate=3)
    ours = Stage1Objective.from_config(config, COORD_IDS)
    assert ours.sigma == sigma_at(config, 0) == 4.0
    ours.set_sigma(sigma_at(config, 4))
    assert ours.sigma == pytest.approx(2.0)
