"""Ratios, trends and warnings on made curves whose right answer is known."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.dynamics.analysis import analyse
from coordeval.dynamics.common_steps import common_steps
from coordeval.dynamics.comparability import comparability_warnings
from coordeval.dynamics.log import LogFile, ReadLog, Row, Series, build_log
from coordeval.dynamics.ratios import audit_ratios
from coordeval.dynamics.trends import series_trend
from coordeval.errors import ConfigError


def log(name, rows):
    file = LogFile(path=None, kind="jsonl")
    return build_log(name, [ReadLog(file=file, rows=[Row(step, values) for step, values in rows])])


def ratio_log(ratio, n=9, **extra):
    rows = []
    for i in range(n):
        step = 10 * (i + 1)
        eval_loss = 2.0 * math.exp(-i / 9) + 1
        rows.append((step, {"loss": eval_loss * ratio(i)} | extra))
        rows.append((step, {"eval_loss": eval_loss}))
    return log("x", rows)


@pytest.mark.parametrize("steps", [2, 4, 8, 16, 64])
@pytest.mark.parametrize("invert", [False, True])
def test_a_steady_factor_is_accumulation(steps, invert):
    """1/N and N are flagged with N, with or without the log saying N."""
    factor = steps if invert else 1 / steps
    wobble = lambda i: factor * (1 + 0.03 * math.sin(i))  # noqa: E731
    (audit,) = audit_ratios([ratio_log(wobble)])
    assert (audit.verdict, audit.steps, audit.confirmed) == ("accumulation", steps, False)
    assert audit.factor == pytest.approx(factor)
    (audit,) = audit_ratios([ratio_log(wobble, **{"accum/grad_steps": float(steps)})])
    assert audit.confirmed
    assert audit.flagged


def test_an_unusual_number_of_steps_is_found_where_it_is_known():
    """N = 7 micro-batches is no usual number; the log or the user says so."""
    (audit,) = audit_ratios([ratio_log(lambda _: 1 / 7)], accumulation=7)
    assert (audit.steps, audit.confirmed) == (7, True)


def test_channels_that_take_turns_are_not_held_against_one_loss():
    """Stage 2's steps have other objectives than its evaluation: no ratio of totals is judged."""
    rows = [(1, {"loss": 9.0, "loss/A1/text_ce": 1.0}), (2, {"loss": 2.0, "loss/B/text_ce": 1.0})]
    plain = [(1, {"loss": 9.0, "loss/text_ce": 1.0}), (2, {"loss": 2.0, "loss/text_ce": 1.0})]
    evaluated = [(2, {"eval_loss": 1.0})]
    assert audit_ratios([log("stage2", rows + evaluated)]) == []
    assert [audit.key for audit in audit_ratios([log("stage1", plain + evaluated)])] == ["loss"]


def test_noise_around_one_is_one_scale():
    """A median near 1 is fine however the rows scatter."""
    draw = random.Random(0)
    (audit,) = audit_ratios([ratio_log(lambda _: draw.uniform(0.8, 1.2))])
    assert audit.verdict == "same_scale"
    assert not audit.flagged


def test_a_wandering_ratio_is_not_called_accumulation():
    """Overfitting makes the ratio fall over time; that is another fault."""
    (audit,) = audit_ratios([ratio_log(lambda i: 0.9 / (1 + i))])
    assert audit.verdict == "off"


def test_alignment_is_with_the_train_row_before():
    """Each evaluation takes the last training row at or before it; none before: skipped."""
    rows = [(5, {"eval_loss": 1.0}), (10, {"loss": 3.0}), (12, {"eval_loss": 2.0})]
    rows += [
        (13, {"loss": 9.0}),
        (20, {"loss": 4.0}),
        (20, {"eval_loss": 2.0}),
        (30, {"eval_loss": 0.0}),
    ]
    (audit,) = audit_ratios([log("x", rows)])
    assert audit.pairs == ((12, 10, 1.5), (20, 20, 2.0))
    assert audit.skipped == 2


def series(values, key="coord_diag/soft_ce", step=40):
    steps = tuple(step * (i + 1) for i in range(len(values)))
    return Series(key=key, split="eval", origin=key, steps=steps, values=tuple(values))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.sampled_from(["loss", "coco/AP"])
)
def test_trends_never_raise_and_keep_to_the_series(values, key):
    """Any finite series gets a verdict, and every step named is one of its steps."""
    made = series(values, key)
    trend = series_trend("x", made)
    assert trend.points == len(values)
    named = [trend.collapse, trend.turn, trend.plateau and trend.plateau.start]
    assert {step for step in named if step is not None} <= set(made.steps)
    if trend.verdict == "turns":
        assert trend.turn == trend.best[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_noisy_plateau_has_no_turning_point(seed):
    """Noise after convergence is not a turn, for 20 seeds."""
    draw = random.Random(seed)
    values = [300 * math.exp(-i) + 24 + draw.gauss(0, 0.4) for i in range(25)]
    trend = series_trend("x", series(values))
    assert trend.turn is None
    assert trend.verdict == "improves"
    assert trend.plateau is not None
    assert trend.plateau.start <= 40 * 6


@pytest.mark.parametrize("seed", range(20))
def test_a_real_turn_is_found_in_noise(seed):
    """Overfitting that costs a third of the gain is found near its place, for 20 seeds."""
    draw = random.Random(seed)
    values = [
        4 + 4 * math.exp(-i / 2) + 0.05 * max(0, i - 10) + draw.gauss(0, 0.04) for i in range(40)
    ]
    trend = series_trend("x", series(values))
    assert trend.verdict == "turns"
    assert 40 * 7 <= trend.turn <= 40 * 15


def test_falling_scores_turn_too():
    """Where higher is better, a fall after the best value is the turn."""
    trend = series_trend("x", series([0.1, 0.3, 0.42, 0.40, 0.35, 0.31, 0.30], "coco/AP"))
    assert (trend.verdict, trend.turn) == ("turns", 120)
    assert trend.turn_to == pytest.approx(0.31)


def test_steady_curves_are_named_as_they_are():
    """Lines: flat, improving, worsening; three points say nothing."""
    assert series_trend("x", series([3.0] * 8)).verdict == "flat"
    assert series_trend("x", series([8 - i for i in range(8)])).verdict == "improves"
    assert series_trend("x", series([1.0 + i for i in range(8)])).verdict == "worsens"
    assert series_trend("x", series([1.0, 2.0, 3.0])).verdict == "too_few"


def test_long_series_are_seen_through_windows():
    """Thousands of training rows are judged like their medians."""
    draw = random.Random(1)
    values = [2 + 6 * math.exp(-i / 200) + draw.gauss(0, 0.3) for i in range(5000)]
    trend = series_trend("x", series(values, "loss", step=1))
    assert trend.windowed
    assert trend.verdict == "improves"
    assert trend.collapse is not None


def kinds(*logs):
    return {warning.kind: warning for warning in comparability_warnings(logs)}


def test_loss_totals_of_different_objectives():
    """A coordinate loss on one side only: totals are not comparable, and both are named."""
    soft = log(
        "soft",
        [(1, {"eval_loss": 1.0, "eval_base_ce/loss": 1.0, "eval_coord_softce_w1/soft_ce": 2.0})],
    )
    pure = log("pure", [(1, {"eval_loss": 1.0})])
    found = kinds(soft, pure)
    assert "loss" in found["loss_totals"].keys
    assert set(found["loss_totals"].logs) == {"soft", "pure"}
    assert "loss_totals" not in kinds(soft)


def test_equal_logs_only_hint_at_weights():
    """Equal terms do not prove equal weights; no false alarm either."""
    one, two = (log(name, [(1, {"eval_loss": 1.0})]) for name in "ab")
    found = kinds(one, two)
    assert "loss_totals" not in found
    assert "loss_totals_unverified" in found


def test_text_accuracy_needs_a_coordinate_mask():
    """Named only where nothing shows a mask."""
    masked = log("m", [(1, {"eval_text_token_acc": 0.9, "coord_token_frac": 0.4})])
    bare = log("b", [(1, {"eval_text_token_acc": 0.6})])
    assert kinds(masked, bare)["text_token_acc_without_mask"].logs == ("b",)
    assert "text_token_acc_without_mask" not in kinds(masked)


def test_teacher_forced_logs_are_told_from_decoding_ones():
    """A log with an evaluation by free decoding gets no such warning."""
    forced = log("f", [(1, {"eval_loss": 1.0})])
    decoded = log("d", [(1, {"eval_rollout/f1": 0.4})])
    assert kinds(forced, decoded)["teacher_forced_only"].logs == ("f",)


def test_logs_without_evaluations_do_not_empty_the_common_steps():
    """Steps are compared among logs that were evaluated."""
    one = log("a", [(1, {"eval_loss": 1.0}), (2, {"eval_loss": 1.0})])
    two = log("b", [(2, {"eval_loss": 1.0}), (3, {"eval_loss": 1.0})])
    none = log("c", [(1, {"loss": 1.0})])
    assert common_steps([one, two, none]).everywhere == (2,)
    assert common_steps([none]).everywhere == ()
    with pytest.raises(ConfigError, match="--at 7"):
        analyse([one, two], at=(7,))


def test_preferred_names_are_taken_whole():
    """Where a log has both names, the loss block is shown, and no series mixes the two."""
    both = log(
        "x",
        [
            (1, {"eval_coord_diag/w1": 1.0, "eval_coord_softce_w1/w1": 2.0}),
            (2, {"eval_coord_diag/w1": 3.0}),
        ],
    )
    found = both.get("eval", "coord_diag/w1")
    assert found.values == (2.0,)
    assert found.origin == "eval_coord_softce_w1/w1"
