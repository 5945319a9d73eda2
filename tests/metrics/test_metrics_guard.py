"""What the loop guard's verdicts become: `guard/*`, and what a stop means for the other metrics."""

from __future__ import annotations

import numpy as np
import pytest

from coordeval.metrics.catalogue import describe
from coordeval.stats.replicates import replicate

GT = [{"desc": "cat", "bbox_2d": [0, 0, 500, 500]}]
WATCHED = {"decode": {"guard": {"mode": "stop"}}}


def verdict(kind, onset, saved):
    return {"kind": kind, "onset": onset, "tokens_saved": saved, "at": onset + 30}


def of_guard(result):
    return {
        key.removeprefix("guard/"): value
        for key, value in result.metrics.items()
        if key.startswith("guard/")
    }


def test_counts_kinds_savings_and_onset(score, line, rec, text):
    """Stopped and marked samples of the headline; errors and other samples count nowhere."""
    looped = text(*[rec("cat", (0, 0, 500, 500))] * 4)[:-2]
    lines = [
        line(looped, GT, id="a", finish_reason="loop_guard", guard=verdict("near", 118, 640)),
        line(looped, GT, id="b", finish_reason="loop_guard", guard=verdict("exact", 20, 100)),
        line(looped, GT, id="c", finish_reason="stop", guard=verdict("cycle", 9, 0)),
        line(text(), GT, id="d", finish_reason="stop"),
        line(looped, GT, id="e", finish_reason="loop_guard"),
        line("", GT, id="f", error="boom", guard=verdict("exact", 5, 7)),
        line(
            looped,
            GT,
            id="d",
            sample_index=1,
            finish_reason="loop_guard",
            guard=verdict("block", 1, 1),
        ),
    ]
    got = of_guard(score(lines))
    assert got == {
        "marked": 4,
        "marked_rate": 4 / 5,
        "stopped": 3,
        "stopped_rate": 3 / 5,
        "tokens_saved": 740,
        "onset_mean": pytest.approx((118 + 20 + 9) / 3),
        "kind/exact": 1,
        "kind/block": 0,
        "kind/near": 1,
        "kind/cycle": 1,
        "kind/other": 1,
    }
    assert all(describe(f"guard/{key}") for key in got)


def test_no_guard_is_null_and_a_quiet_one_is_zero(score, line, text):
    """Nothing known of a guard: null. run.json says that one watched: zeros, onset null."""
    assert set(of_guard(score([line(text(), GT)])).values()) == {None}
    off = {"decode": {"guard": {"mode": "off"}}}
    assert set(of_guard(score([line(text(), GT)], off)).values()) == {None}
    quiet = of_guard(score([line(text(), GT)], WATCHED))
    assert quiet.pop("onset_mean") is None
    assert set(quiet.values()) == {0}


@pytest.mark.parametrize("guard", ["odd", 3, [], {}, {"kind": 4, "onset": -2, "tokens_saved": "x"}])
def test_what_outsiders_write_there_is_no_crash(score, line, text, guard):
    """A stop with a strange verdict is a stop of unknown kind."""
    got = of_guard(score([line(text(), GT, finish_reason="loop_guard", guard=guard)]))
    assert (got["stopped"], got["kind/other"], got["tokens_saved"]) == (1, 1, 0)
    assert got["onset_mean"] is None


def test_a_stop_is_an_issue_but_no_truncation(score, line, rec, text):
    """Stopped texts do not conform and are not called cut; their loops and waste still count."""
    one = rec("cat", (0, 0, 500, 500))
    looped = text(*[one] * 4)[:-2]
    line_of = line(
        looped,
        GT,
        finish_reason="loop_guard",
        token_ids=list(range(40)),
        guard=verdict("exact", 10, 60),
    )
    got = score([line_of], WATCHED).metrics
    assert got["samples/truncated_rate"] == 0
    assert got["samples/conforming_rate"] == 0
    assert got["parse/issue/stopped_by_guard"] == 1
    assert got["parse/dropped_invalid"] == 0
    assert got["dup/loop_samples"] == 1
    # No end token is stored: the four copies fill the text, three of them are waste.
    assert 28 <= got["dup/wasted_tokens"] <= 30
    whole = score([line_of | {"text": text(one), "guard": verdict("exact", 10, 60)}], WATCHED)
    assert whole.metrics["samples/conforming_rate"] == 0


def test_every_guard_metric_is_resampled(score, line, rec, text):
    """With every image once the replicates are the metrics themselves."""
    looped = text(*[rec("cat", (0, 0, 500, 500))] * 4)[:-2]
    lines = [
        line(looped, GT, id=f"i{n}", finish_reason="loop_guard", guard=verdict("block", n, 3 * n))
        for n in range(3)
    ] + [line(text(), GT, id="quiet")]
    result = score(lines, WATCHED)
    (got,) = replicate([result], np.ones((2, 4), dtype=np.int32), coco_draws=2)
    for key, value in of_guard(result).items():
        assert got.values[f"guard/{key}"] == pytest.approx([value] * 3), key
