"""Parse health, counts, tokens and outliers on runs whose numbers are known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from coordeval.metrics import health
from coordeval.metrics.outliers import worst_share
from coordeval.parsers.reasons import DROP_REASONS, ISSUES

GT = [{"desc": "a", "bbox_2d": [0, 0, 9, 9]}]


def test_sample_rates(score, line, rec, text):
    """Every kind of output once, the failed image outside the denominators."""
    good = text(rec("a", (0, 0, 9, 9)))
    lines = [
        line(good, GT, id="good", finish_reason="stop"),
        line(text(), [], id="intended empty"),
        line(text(), GT, id="empty list, not empty image"),
        line("I see nothing.", GT, id="prose"),
        line("", GT, id="nothing"),
        line(good[:-1], GT, id="cut", finish_reason="length"),
        line(good + " so", GT, id="chatty"),
        line(good, GT, id="guarded", finish_reason="loop_guard"),
        line(good, GT, id="failed", error="boom"),
    ]
    metrics = score(lines).metrics
    assert (metrics["samples/total"], metrics["samples/errors"]) == (9, 1)
    assert metrics["samples/conforming_rate"] == 3 / 8
    assert metrics["samples/empty_pred_rate"] == 3 / 8
    assert metrics["samples/unparseable_rate"] == 1 / 8
    assert metrics["samples/truncated_rate"] == 1 / 8
    assert metrics["samples/valid_pred_rate"] == 4 / 8
    assert metrics["parse/issue/stopped_by_guard"] == 1
    assert metrics["parse/issue/empty_output"] == 1


def test_truncation_falls_back_to_the_text(score, line, rec, text):
    """Without a finish reason a cut text is what is left to go by."""
    cut = text(rec("a", (0, 0, 9, 9)))[:-1]
    assert score([line(cut, GT)]).metrics["samples/truncated_rate"] == 1.0
    assert score([line(cut, GT, finish_reason="stop")]).metrics["samples/truncated_rate"] == 0.0


def test_every_reason_and_issue_has_its_key(score, line, text):
    """Also at 0, so that runs can be compared key by key."""
    metrics = score([line(text(), [])]).metrics
    assert all(metrics[f"parse/dropped/{reason}"] == 0 for reason in DROP_REASONS)
    assert all(metrics[f"parse/issue/{name}"] == 0 for name in ISSUES)
    assert metrics["parse/drop_rate"] is None


def test_drops_reconcile(score, line, rec, text):
    """Found = valid + the sum over reasons; details add up to their reason."""
    broken = [
        rec("a", (0, 0, 9)),
        rec("a", (0, 0, 9, 9, 9)),
        rec("a", (0, 0, 9, 9), "bbox_3d"),
        rec("a", (9, 9, 0, 0)),
        rec("", (0, 0, 9, 9)),
    ]
    metrics = score([line(text(rec("a", (0, 0, 9, 9)), *broken), GT)]).metrics
    dropped = sum(value for key, value in metrics.items() if key.startswith("parse/dropped/"))
    assert metrics["parse/objects_found"] == metrics["parse/objects_valid"] + dropped == 6
    details = [v for k, v in metrics.items() if k.startswith("parse/detail/wrong_arity/")]
    assert sum(details) == metrics["parse/dropped/wrong_arity"] == 2
    assert metrics["parse/detail/unexpected_keys/bbox_3d"] == 1


def test_details_are_capped_and_fit_for_keys(score, line, text):
    """At most 50 details per reason, the rest under (other); no slashes or control signs."""
    records = [f'{{"desc": "a", "key/{k}\\n": 1}}' for k in range(80)]
    metrics = score([line(text(*records), [])]).metrics
    details = {k: v for k, v in metrics.items() if k.startswith("parse/detail/unexpected_keys/")}
    assert len(details) == 50
    assert sum(details.values()) == 80
    assert details["parse/detail/unexpected_keys/(other)"] == 31
    assert all(key.count("/") == 3 and key.isprintable() for key in details)
    assert health.detail_key("x" * 500).endswith("…")
    assert len(health.detail_key("x" * 500)) == 80
    assert health._capped(Counter({"b": 1, "a": 1})) == {"a": 1, "b": 1}


def test_counts_and_their_errors(score, line, rec, text):
    """Two too many and one too few: mean error .5, mean absolute error 1.5."""
    one = rec("a", (0, 0, 9, 9))
    lines = [
        line(text(one, one, one), GT, id="1"),
        line(text(), GT, id="2"),
    ]
    metrics = score(lines).metrics
    assert (metrics["count/gt"], metrics["count/pred"]) == (2, 3)
    assert metrics["count/error_mean"] == 0.5
    assert metrics["count/error_abs_mean"] == 1.5
    assert metrics["count/exact_rate"] == 0.0


def test_tokens(score, line, text):
    """Totals over rollouts with ids; null where there are none."""
    lines = [line(text(), [], id=str(n), token_ids=[1] * n) for n in (10, 20, 30)]
    metrics = score(lines).metrics
    assert [metrics[f"tokens/{k}"] for k in ("total", "mean", "p90", "max")] == [60, 20.0, 28.0, 30]
    assert score([line(text(), [])]).metrics["tokens/total"] is None


def test_worst_share():
    """One image of a hundred with half of all drops; nothing happened is null."""
    counts = np.array([99] + [1] * 99)
    assert worst_share(counts, 1) == 0.5
    assert worst_share(counts, 5) == pytest.approx(103 / 198)
    assert worst_share(np.array([3, 1]), 1) == 0.75
    assert worst_share(np.zeros(4, dtype=int), 10) is None
    assert worst_share(np.zeros(0, dtype=int), 10) is None


def test_outliers_of_a_run(score, line, rec, text):
    """The image that loops carries all surplus predictions; failed images take no part."""
    one = rec("a", (0, 0, 9, 9))
    lines = [line(text(one), GT, id=str(n)) for n in range(9)]
    lines += [line(text(*[one] * 40), GT, id="loop"), line("", GT, id="failed", error="x")]
    metrics = score(lines).metrics
    assert metrics["outliers/surplus/worst_10pct"] == 1.0
    assert metrics["outliers/drops/worst_10pct"] is None
