"""Differences between contexts: drawn quantiles, signs, and what happens without values."""

import numpy as np
import pytest

from coordeval.training.diagnostics.totals import FIELDS, P90_KEY, Totals, add_up
from coordeval.training.probe.bias import context_changes, drawn_quantiles

MAE = "coord_diag/expected_bin_mae"
MASS = "coord_diag/coord_vocab_mass"


def totals(errors, mass=None):
    """Totals of one image with these errors, and this mean mass at its slots."""
    errors = np.asarray(errors, dtype=np.float64)
    sums = dict.fromkeys(FIELDS, 0.0)
    sums |= {"slots": len(errors), "bins": len(errors), "abs_err": errors.sum()}
    sums["coord_mass"] = len(errors) * (1.0 if mass is None else mass)
    return Totals(sums=np.array([sums[name] for name in FIELDS]), abs_errors=errors)


def test_drawn_quantiles_are_those_of_repeated_values():
    """A draw's quantile is numpy's, of every image's values as often as the draw says."""
    rng = np.random.default_rng(0)
    parts = [np.round(rng.exponential(5, size=size), 1) for size in (4, 0, 1, 9, 3, 12)]
    weights = rng.multinomial(6, np.ones(6) / 6, size=150).astype(np.int32)
    weights[7] = 0
    got = drawn_quantiles(parts, weights, 0.9)
    for row, drawn in enumerate(weights):
        repeated = np.concatenate(
            [np.repeat(part, times) for part, times in zip(parts, drawn, strict=True)]
        )
        want = np.quantile(repeated, 0.9) if len(repeated) else np.nan
        np.testing.assert_allclose(got[row], want, rtol=1e-12, err_msg=str(row))


def test_a_clear_difference_is_judged_by_its_direction():
    """Larger errors and less mass in the second context are worse; the interval holds them."""
    rng = np.random.default_rng(1)
    first = [totals(rng.exponential(4, size=8), mass=0.99) for _ in range(40)]
    second = [totals(part.abs_errors + 3, mass=0.9) for part in first]
    ids = [str(n) for n in range(40)]
    keys = [MAE, P90_KEY, MASS]
    changes = context_changes(first, second, ids=ids, keys=keys, draws=500, seed=0)
    assert changes[MAE].delta == pytest.approx(3.0)
    assert changes[MAE].low == pytest.approx(3.0)
    assert changes[P90_KEY].delta == pytest.approx(3.0)
    assert changes[MASS].delta == pytest.approx(-0.09)
    assert [changes[key].verdict for key in keys] == ["worse"] * 3
    back = context_changes(second, first, ids=ids, keys=keys, draws=500, seed=0)
    assert [back[key].verdict for key in keys] == ["better"] * 3


def test_noise_is_not_told_apart_and_order_does_not_matter():
    """Two samples of the same errors: `~`; images in another order give the same interval."""
    rng = np.random.default_rng(2)
    first = [totals(rng.exponential(4, size=5)) for _ in range(30)]
    second = [totals(rng.exponential(4, size=5)) for _ in range(30)]
    ids = [f"image-{n}" for n in range(30)]
    how = {"keys": [MAE, P90_KEY], "draws": 400, "seed": 3}
    changes = context_changes(first, second, ids=ids, **how)
    assert {change.verdict for change in changes.values()} == {"~"}
    assert changes[MAE].low < 0 < changes[MAE].high
    turned = context_changes(first[::-1], second[::-1], ids=ids[::-1], **how)
    for key in how["keys"]:
        assert turned[key].low == pytest.approx(changes[key].low)
        assert turned[key].high == pytest.approx(changes[key].high)


def test_no_images_and_no_values_have_no_difference():
    """Without images or without slots there is no number, and no verdict."""
    for parts in ([], [totals([])] * 3):
        ids = [str(n) for n in range(len(parts))]
        change = context_changes(parts, parts, ids=ids, keys=[MAE, P90_KEY], draws=100, seed=0)[MAE]
        assert (change.a, change.b, change.delta, change.verdict) == (None, None, None, None)


def test_the_value_is_that_of_all_images_together():
    """Images weigh by their slots: a ratio of sums, not a mean of means."""
    parts = [totals([1.0]), totals([3.0] * 9)]
    change = context_changes(parts, parts, ids=["a", "b"], keys=[MAE], draws=100, seed=0)[MAE]
    assert change.a == pytest.approx(2.8) == pytest.approx(add_up(parts).metrics()[MAE])
    assert change.delta == 0.0
    assert change.verdict == "~"
