"""Gates held against numbers: verdicts, nulls, unknown keys, order, exit codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.errors import ConfigError, DataError, NotComparable, RunIncomplete
from coordeval.parsers.reasons import FOREIGN_ISSUES
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import CheckResult, check_gates


def judge(gate, now, before=None, **options):
    """The outcomes of one gate."""
    return check_gates([parse_gate(gate)], now, before, **options)


def verdict(gate, now, before=None):
    """The status of one gate on one metric."""
    (outcome,) = judge(gate, now, before)
    return outcome.status


@pytest.mark.parametrize(
    ("gate", "before", "now", "status"),
    [
        ("coco/AP:-0.5pt", 0.405, 0.400, "pass"),
        ("coco/AP:-0.5pt", 0.405, 0.3999, "fail"),
        ("coco/AP:-0.5pt", 0.405, 0.9, "pass"),
        ("coco/AP:+-0.5pt", 0.405, 0.9, "fail"),
        ("parse/drop_rate:+10%", 0.1, 0.11, "pass"),
        ("parse/drop_rate:+10%", 0.1, 0.1101, "fail"),
        ("parse/drop_rate:+10%,+2pt", 0.1, 0.12, "pass"),
        ("parse/drop_rate:+10%,+2pt", 0.0, 0.021, "fail"),
        ("dup/loop_samples:+0", 3, 4, "fail"),
        ("dup/loop_samples:+1", 3, 4, "pass"),
        ("coco/AP:-0.5pt", None, 0.4, "fail"),
        ("coco/AP:-0.5pt", 0.4, None, "fail"),
        ("coco/AP:-0.5pt", None, None, "skipped"),
        ("coco/AP>=0.4", None, 0.4, "pass"),
        ("coco/AP>=0.4", 0.5, None, "fail"),
        ("coco/AP>0.4", None, 0.4, "fail"),
    ],
)
def test_one_gate(gate, before, now, status):
    """Exactly at the tolerance passes, beyond it fails; null on one side fails."""
    key = gate.partition(":")[0].partition(">")[0]
    assert verdict(gate, {key: now}, {key: before}) == status


def test_absent_keys_are_null_and_absent_details_are_zero():
    """A detail that does not occur counts 0; another known key that is not there is null."""
    gate = "parse/detail/wrong_arity/foreign_token:+0"
    key = "parse/detail/wrong_arity/foreign_token"
    assert verdict(gate, {key: 5}, {"coco/AP": 0.1}) == "fail"
    assert verdict(gate, {"coco/AP": 0.1}, {key: 5}) == "pass"
    assert verdict("coco_segm/AP:-1pt", {"coco/AP": 0.1}, {"coco/AP": 0.1}) == "skipped"


@pytest.mark.parametrize("issue", sorted(FOREIGN_ISSUES))
@pytest.mark.parametrize("pattern", ["parse/issue/{}", "parse/issue/*"])
def test_absent_issues_of_other_dialects_are_zero(issue, pattern):
    """An issue that only other dialects have may be bounded before it occurs, and may go away."""
    key, other = f"parse/issue/{issue}", {"parse/issue/truncated": 0}
    gate = pattern.format(issue) + ":+0"
    assert {outcome.status for outcome in judge(gate, other, other | {key: 8})} == {"pass"}
    assert verdict(f"{key}:+0", other | {key: 8}, other) == "fail"
    assert verdict(f"{key}<=0", other) == "pass"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("coco/APP", "'coco/AP'"),
        ("f1/0.5/f1", "'f1/0.50/f1'"),
        ("f1/0.33/f1", "f1/0"),
        ("parse/dropped/wrong_aritty", "'parse/dropped/wrong_arity'"),
        ("parse/droprate", "'parse/drop_rate'"),
        ("eval_rollout/mAP", "'coco/AP'"),
        ("zzz/*", "docs/metrics.md"),
        ("coco/P*", "'coco/AP'"),
    ],
)
def test_an_unknown_key_is_refused_with_a_hint(key, hint):
    """Typos are configuration errors (exit code 2), and the nearest known key is named."""
    metrics = {"coco/AP": 0.4, "f1/0.50/f1": 0.5, "parse/drop_rate": 0.1}
    with pytest.raises(ConfigError, match=hint) as caught:
        judge(f"{key}:+-1", metrics, metrics)
    assert caught.value.exit_code == 2


def test_a_change_without_a_baseline_is_refused():
    """A gate that bounds a change cannot be judged from one number."""
    with pytest.raises(ConfigError, match="--baseline"):
        judge("coco/AP:-1pt", {"coco/AP": 0.4})


def test_a_relative_gate_from_zero_is_refused_by_name():
    """The message names gate and metric."""
    with pytest.raises(ConfigError, match=r"parse/drop_rate:\+10%.*absolute"):
        judge("parse/drop_rate:+10%", {"parse/drop_rate": 0.0}, {"parse/drop_rate": 0.0})


def test_failing_gates_come_first_and_each_is_listed():
    """All failing gates stand before all others, in the order given."""
    gates = [
        "coco/AP>=0.1",
        "coco/AP>=0.9",
        "coco_segm/AP>=0.5",
        "coco/AP50>=0.1",
        "coco/AP50>=0.9",
    ]
    now = {"coco/AP": 0.5, "coco/AP50": 0.5}
    outcomes = check_gates([parse_gate(gate) for gate in gates], now, None)
    assert [outcome.gate for outcome in outcomes] == [gates[i] for i in (1, 2, 4, 0, 3)]
    found = CheckResult(run="r", baseline=None, outcomes=outcomes)
    assert (found.verdict, found.exit_code, len(found.failing)) == ("fail", 1, 3)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(ConfigError("x"), 2), (DataError("x"), 2), (RunIncomplete("x"), 3), (NotComparable("x"), 4)],
)
def test_a_fault_is_the_verdict_and_brings_its_exit_code(fault, code):
    """Verdict and exit code come from the same object, faults included."""
    found = CheckResult(run="r", baseline=None, fault=fault)
    assert (found.verdict, found.exit_code) == ("fault", code)
    assert found.to_json()["exit_code"] == code


def test_nothing_evaluated_is_no_pass():
    """Without a gate, or with none that could be judged, the exit code is 3."""
    assert CheckResult(run="r", baseline=None).exit_code == 3
    (skipped,) = judge("coco/AP:-1pt", {"coco/AP": None}, {"coco/AP": None})
    assert CheckResult(run="r", baseline=None, outcomes=(skipped,)).exit_code == 3


def test_a_pattern_stands_for_every_key_it_matches():
    """`*` is judged key by key; keys of either side count."""
    outcomes = judge("parse/*:+0", {"parse/drop_rate": 0.1}, {"parse/objects_found": 3})
    assert {outcome.key for outcome in outcomes} == {"parse/drop_rate", "parse/objects_found"}
    assert {outcome.status for outcome in outcomes} == {"fail"}


@given(
    before=st.floats(0, 1),
    now=st.floats(0, 1),
    absolute=st.floats(0, 0.5),
    relative=st.floats(0, 2),
)
def test_a_change_is_judged_as_written(before, now, absolute, relative):
    """Against the definition: worse by more than the wider of both tolerances fails."""
    gate = f"coco/AP:-{absolute:.6f},-{100 * relative:.4f}%"
    allowed = max(round(absolute, 6), round(relative, 6) * before)
    if abs(before - now - allowed) > 1e-6:
        expected = "fail" if before - now > allowed else "pass"
        assert verdict(gate, {"coco/AP": now}, {"coco/AP": before}) == expected


class Known:
    """Intervals that are told."""

    def __init__(self, interval):
        self.interval = interval

    def of_value(self, key):
        return self.interval

    of_change = of_value


@pytest.mark.parametrize(
    ("gate", "interval", "status"),
    [
        ("coco/AP:-1pt", (-0.05, -0.005), "pass"),
        ("coco/AP:-1pt", (-0.05, -0.02), "fail"),
        ("coco/AP>=0.5", (0.35, 0.55), "pass"),
        ("coco/AP>=0.5", (0.35, 0.45), "fail"),
        ("coco/AP:-1pt", None, "fail"),
    ],
)
def test_with_intervals_a_gate_fails_only_where_the_whole_interval_is_beyond(
    gate, interval, status
):
    """A drop that the draws cannot tell from the tolerance passes; without an interval: exact."""
    (outcome,) = judge(gate, {"coco/AP": 0.4}, {"coco/AP": 0.43}, intervals=Known(interval))
    assert outcome.status == status
