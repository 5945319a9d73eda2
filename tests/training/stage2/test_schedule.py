"""Which steps are channel B's: exact for decimal shares, by the step's number alone."""

from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.training.stage2.config import CurriculumConfig, Stage2Config
from coordeval.training.stage2.schedule import (
    as_written,
    channels_used,
    count_b_steps,
    is_b_step,
)

THOUSANDTHS = st.integers(0, 1000).map(lambda n: n / 1000)
CURRICULA = st.builds(CurriculumConfig, start=THOUSANDTHS, steps=st.integers(0, 300))


def _floor(share, steps):
    """floor(steps * share) by decimal arithmetic on the share's own text."""
    return int((Decimal(str(share)) * steps).to_integral_value(ROUND_FLOOR))


@given(THOUSANDTHS, st.integers(0, 100_000))
def test_b_steps_follow_the_formula(share, step):
    """Step s is B where floor((s + 1) r) > floor(s r), in exact decimal arithmetic."""
    assert is_b_step(step, share) == (_floor(share, step + 1) > _floor(share, step))


@given(st.floats(0, 1), st.integers(0, 3000))
def test_the_first_n_steps_hold_floor_n_r(share, steps):
    """Counting the B steps one by one gives floor(n r), for any share."""
    found = sum(is_b_step(step, share) for step in range(min(steps, 300)))
    assert found == int(as_written(share) * min(steps, 300))
    assert count_b_steps(steps, share) == int(as_written(share) * steps)


@given(st.integers(1, 999), st.data())
def test_a_quotient_is_the_fraction_that_it_was_meant_as(whole, data):
    """1 / 3 is every third step, though no decimal and no binary number is a third."""
    part = data.draw(st.integers(0, whole))
    assert as_written(part / whole) == Fraction(part, whole)
    assert is_b_step(whole - 1, 1 / whole)
    assert count_b_steps(whole * 7, part / whole) == part * 7


@given(st.floats(0, 1))
def test_a_share_is_never_taken_for_another_number(share):
    """Whatever fraction is taken, in floating point it is the share that was given."""
    assert float(as_written(share)) == share


@pytest.mark.parametrize(
    ("share", "steps"),
    [
        (0.1, [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]),
        (0.05, [19, 39, 59, 79, 99]),
        (0.3, [3, 6, 9, 13, 16, 19, 23, 26, 29]),
        (0.7, [1, 2, 4, 5, 7, 8, 9, 11]),
        (0.5, [1, 3, 5, 7]),
        (0.0, []),
        (1.0, [0, 1, 2, 3]),
        (1, [0, 1, 2, 3]),
    ],
)
def test_written_shares_give_the_steps_that_they_say(share, steps):
    """0.1 is every tenth step, also where the binary number beside it would miss one."""
    end = steps[-1] + 1 if steps else 50
    assert [step for step in range(end) if is_b_step(step, share)] == steps


def _typed(share, step):
    """The formula as it is typed, in binary floating point."""
    return floor((step + 1) * share) > floor(step * share)


@pytest.mark.parametrize(
    "share", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 0.85, 1 / 3, 2 / 3, 5 / 16, 0.0, 1.0]
)
def test_at_usual_shares_the_typed_formula_says_the_same(share):
    """For the shares that the module names, floats and exact fractions agree on every step."""
    exact = as_written(share)
    for step in (*range(2000), *range(10**6, 10**6 + 400)):
        expected = floor((step + 1) * exact) > floor(step * exact)
        assert is_b_step(step, share) == _typed(share, step) == expected


FIRST_PARTING = dict(
    zip(
        (0.58, 0.7, 0.29, 0.57, 0.82, 0.35, 0.41, 0.69, 0.94, 0.47),
        (49, 89, 99, 99, 149, 179, 299, 299, 2149, 4299),
        strict=True,
    )
)


@pytest.mark.parametrize(("share", "first"), FIRST_PARTING.items())
def test_the_typed_formula_parts_where_the_module_says(share, first):
    """There a B step would come one step late: the first n steps would lack one of floor(n r)."""
    parted = [step for step in range(first + 2) if _typed(share, step) != is_b_step(step, share)]
    assert parted == [first, first + 1]
    assert is_b_step(first, share)
    assert count_b_steps(first + 1, share) == _floor(share, first + 1)
    assert sum(_typed(share, step) for step in range(first + 1)) == _floor(share, first + 1) - 1


def test_no_other_hundredth_parts_within_five_thousand_steps():
    """The module's list of hundredths at which the typed formula is late is complete."""
    parting = {
        share / 100
        for share in range(101)
        for step in range(5000)
        if floor((step + 1) * (share / 100)) < (step + 1) * share // 100
    }
    assert parting == set(FIRST_PARTING)


def test_long_trainings_do_not_drift():
    """After 10^12 steps the count is still floor(n r), with shares that floats cannot hold."""
    for share, written in (
        (0.29, Fraction(29, 100)),
        (0.7, Fraction(7, 10)),
        (1 / 3, Fraction(1, 3)),
    ):
        steps = 3 * 10**12
        assert count_b_steps(steps, share) == steps * written
        assert is_b_step(steps - 1, share)


@given(THOUSANDTHS, CURRICULA)
def test_a_curriculum_counts_the_integral_of_its_share(share, curriculum):
    """The first n steps hold the area under the line from start to b_ratio, rounded down."""
    start, end = Fraction(str(curriculum.start)), Fraction(str(share))
    total, found = Fraction(0), 0
    for step in range(curriculum.steps + 40):
        assert count_b_steps(step, share, curriculum) == found == int(total)
        if step < curriculum.steps:
            # The mean of a line over one step is its value in the middle.
            middle = Fraction(2 * step + 1, 2 * curriculum.steps)
            total += start + (end - start) * middle
        else:
            total += end
        found += is_b_step(step, share, curriculum)


@given(THOUSANDTHS, CURRICULA, st.integers(0, 400))
def test_after_the_curriculum_the_share_is_constant(share, curriculum, steps):
    """From its end on any n steps hold n r of B, rounded down or up."""
    first = count_b_steps(curriculum.steps, share, curriculum)
    later = count_b_steps(curriculum.steps + steps, share, curriculum)
    exact = Fraction(str(share)) * steps
    assert abs(later - first - exact) < 1


def test_a_curriculum_from_a_to_b_spreads_its_steps():
    """From 0 to 1 over ten steps: five B steps, ever closer together, then B alone."""
    curriculum = CurriculumConfig(start=0.0, steps=10)
    steps = [step for step in range(14) if is_b_step(step, 1.0, curriculum)]
    assert steps == [4, 6, 7, 8, 9, 10, 11, 12, 13]  # n**2 / 20 passes 1, 2, 3, 4 and 5
    assert count_b_steps(10, 1.0, curriculum) == 5


def test_channels_that_have_no_step_are_known():
    """A share of 0 never asks for B, one of 1 never for A, unless the curriculum does."""

    def used(share, **curriculum):
        return channels_used(Stage2Config(b_ratio=share, curriculum=CurriculumConfig(**curriculum)))

    assert used(0.0) == used(0.0, start=0.5) == (True, False)
    assert used(1.0) == (False, True)
    assert used(0.3) == used(1.0, start=0.2, steps=5) == used(0.0, start=1.0, steps=9)
    assert used(0.3) == (True, True)


@pytest.mark.parametrize(("step", "share"), [(-1, 0.5), (0, 1.5), (3, -0.1)])
def test_what_is_no_step_or_share_is_refused(step, share):
    """Negative steps and shares outside 0 .. 1 are faults of the caller."""
    with pytest.raises(ValueError, match="from 0"):
        is_b_step(step, share)
