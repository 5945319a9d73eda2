"""Intervals and p-values: against scipy, closed forms, and simulated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from coordeval.stats.bootstrap import (
    benjamini_hochberg,
    draw_weights,
    evidence,
    smallest_p,
)


def mean_replicates(differences, weights):
    """Replicates of a mean difference."""
    return weights @ differences / weights.sum(axis=1)


def test_every_draw_has_as_many_images_as_the_data_set():
    """Weights are whole, non-negative, and sum to the number of images; the seed decides them."""
    weights = draw_weights(37, 50, seed=4)
    assert weights.shape == (50, 37)
    assert (weights.sum(axis=1) == 37).all() and (weights >= 0).all()
    assert np.array_equal(weights, draw_weights(37, 50, seed=4))
    assert not np.array_equal(weights, draw_weights(37, 50, seed=5))
    assert draw_weights(0, 50, seed=4).shape == (50, 0)


def test_weights_follow_the_image_wherever_it_stands():
    """With its canonical place given, an image has the same weights in any order of the run."""
    order = np.array([2, 0, 1])
    assert np.array_equal(draw_weights(3, 9, 0, order), draw_weights(3, 9, 0)[:, order])


def test_the_interval_of_a_mean_agrees_with_scipy():
    """Percentile intervals and standard errors equal scipy.stats.bootstrap's up to its noise."""
    differences = np.random.default_rng(0).gamma(2.0, 1.0, 80) - 1.7
    reference = scipy_stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=9999,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    replicates = mean_replicates(differences, draw_weights(80, 9999, 2))
    got = evidence(float(differences.mean()), replicates)
    error = reference.standard_error
    assert got.low == pytest.approx(reference.confidence_interval.low, abs=0.1 * error)
    assert got.high == pytest.approx(reference.confidence_interval.high, abs=0.1 * error)
    assert replicates.std(ddof=1) == pytest.approx(error, rel=0.05)
    assert got.detectable == pytest.approx(2.80 * error, rel=0.06)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Over 400 simulated data sets the 95 % interval holds the true mean in about 95 %."""
    rng = np.random.default_rng(0)
    weights = draw_weights(60, 400, 1)
    inside = 0
    for _ in range(400):
        differences = rng.normal(0.3, 1.0, 60)
        got = evidence(float(differences.mean()), mean_replicates(differences, weights))
        inside += got.low <= 0.3 <= got.high
    assert 0.91 <= inside / 400 <= 0.98


def test_p_values_are_calibrated_where_nothing_differs():
    """Without a true difference p <= .05 comes up about once in twenty, p <= .5 in half."""
    rng = np.random.default_rng(7)
    weights = draw_weights(80, 500, 3)
    p_values = []
    for _ in range(500):
        differences = rng.normal(0.0, 1.0, 80)
        p_values.append(
            evidence(float(differences.mean()), mean_replicates(differences, weights)).p
        )
    shares = [(np.array(p_values) <= level).mean() for level in (0.05, 0.5)]
    assert 0.02 <= shares[0] <= 0.09
    assert 0.42 <= shares[1] <= 0.58


def test_rare_events_on_few_images_are_no_evidence():
    """Four images with one event each, all in B, are not called: a sign test gives 1/8."""
    differences = np.zeros(200)
    differences[:4] = 1.0
    replicates = mean_replicates(differences, draw_weights(200, 2000, 0))
    assert evidence(0.02, replicates).p < 0.05
    assert evidence(0.02, replicates, images_differ=4).p == 0.125
    assert [smallest_p(n) for n in (0, 1, 2, 6)] == [1.0, 1.0, 0.5, 0.03125]


def test_swapping_the_runs_turns_everything_round():
    """B against A is A against B with the sign changed, and the same p."""
    differences = np.random.default_rng(5).normal(0.2, 1.0, 50)
    replicates = mean_replicates(differences, draw_weights(50, 999, 0))
    one = evidence(float(differences.mean()), replicates)
    two = evidence(-float(differences.mean()), -replicates)
    assert (two.low, two.high) == (pytest.approx(-one.high), pytest.approx(-one.low))
    assert (two.p, two.detectable) == (one.p, pytest.approx(one.detectable))


def test_no_difference_is_no_evidence_and_nothing_to_detect():
    """Replicates of exact zeros: zero interval, p 1, no smallest effect."""
    got = evidence(0.0, np.zeros(500))
    assert (got.low, got.high, got.p, got.detectable) == (0.0, 0.0, 1.0, None)


def test_draws_without_a_value_are_left_out_and_counted():
    """A ratio that is empty in some draws is judged by the others; in most, not at all."""
    replicates = np.where(np.arange(1000) % 4 == 0, np.nan, 1.0 + np.arange(1000) / 1e4)
    assert evidence(1.0, replicates).draws == 750
    hollow = np.where(np.arange(1000) % 4 == 0, 1.0, np.nan)
    got = evidence(1.0, hollow)
    assert (got.low, got.p, got.draws) == (None, None, 250)


def test_adjusted_p_values_are_benjamini_and_hochbergs():
    """The worked example: p (i) times m / i, made monotone from the largest."""
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_equal_scipys(p_values):
    """Any list: scipy.stats.false_discovery_control says the same."""
    want = scipy_stats.false_discovery_control(p_values, method="bh")
    assert benjamini_hochberg(p_values) == pytest.approx(list(want))
