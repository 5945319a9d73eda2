"""Federated AP under resampling: a draw is the score of a run that is really resampled."""

from __future__ import annotations

import random

import numpy as np
import pytest
from comparing import answer, make_run, random_box, random_lines, record

from coordeval.metrics.score import score_run
from coordeval.stats.comparison import CompareOptions, compare_runs
from coordeval.stats.replicates import replicate

CATEGORIES = [
    {"id": 5, "name": "cat", "frequency": "f"},
    {"id": 9, "name": "dog", "frequency": "r"},
    {"id": 2, "name": "kite", "frequency": "c"},
]
QUICK = CompareOptions(draws=200, coco_draws=40)


def federated(lines, seed=5):
    """The lines with lists of judged classes; every sixth image is not of LVIS."""
    rng = random.Random(seed)
    out = []
    for number, line in enumerate(lines):
        held = {obj["desc"] for obj in line["gt"]}
        absent = [item["id"] for item in CATEGORIES if item["name"] not in held]
        unsure = [item["id"] for item in CATEGORIES if item["name"] in held and rng.random() < 0.4]
        labels = {
            "neg_category_ids": [key for key in absent if rng.random() < 0.6],
            "not_exhaustive_category_ids": unsure,
        }
        out.append(line | (labels if number % 6 else {}))
    return out


def crowded(line, seed=7):
    """The line with an answer of more records than count; nobody looked for its kites."""
    rng = random.Random(seed)
    names = [item["name"] for item in CATEGORIES]
    records = [record(rng.choice(names), random_box(rng)) for _ in range(320)]
    kept = [obj for obj in line["gt"] if obj["desc"] != "kite"]
    return line | {"text": answer(*records), "gt": kept, "neg_category_ids": []}


def with_scores(lines, levels, seed=11):
    rng = random.Random(seed)
    return [
        line
        | {"scores": [rng.randrange(levels) / levels for _ in range(line["text"].count("{") - 1)]}
        for line in lines
    ]


def whole(lines):
    """The lines without answers that were cut."""
    return [line for line in lines if line["text"].endswith("]}")]


@pytest.mark.parametrize("levels", [None, 3, 1000])
def test_a_draw_is_the_score_of_the_resampled_run(tmp_path, levels):
    """Lines really repeated as often as the draw says give the draw's numbers, ties too."""
    lines = federated(whole(random_lines(30, seed=3)))
    lines[1] = crowded(lines[1])
    lines = lines if levels is None else with_scores(lines, levels)
    weights = np.random.default_rng(1).integers(0, 4, size=len(lines))
    weights[1] = 2
    repeated = [
        item | {"id": f"{item['id']}-{copy}"}
        for item, times in zip(lines, weights.tolist(), strict=True)
        for copy in range(times)
    ]
    own = score_run(make_run(tmp_path / "a", lines, categories=CATEGORIES))
    want = score_run(make_run(tmp_path / "b", repeated, categories=CATEGORIES))
    (got,) = replicate([own], weights[None].astype(np.int32), coco_draws=1)
    keys = [key for key in own.metrics if key.startswith("lvis/")]
    assert own.metrics["lvis/over_limit"] > 0
    assert own.metrics["lvis/unjudged"] > 0
    assert len(keys) > 10
    for key in keys:
        value = own.metrics[key]
        if value is None:
            continue
        np.testing.assert_allclose(got.values[key][0], value, atol=1e-12, err_msg=key)
        if len(got.values[key]) > 1 and want.metrics[key] is not None:
            np.testing.assert_allclose(
                got.values[key][1], want.metrics[key], atol=1e-12, err_msg=key
            )


def test_federated_ap_is_judged_like_every_other_metric(tmp_path):
    """Half of the answers spoilt: federated AP is worse, with an interval below 0."""
    lines = federated(random_lines(40, seed=4))
    spoilt = [
        line | {"text": answer()} if number % 2 else line for number, line in enumerate(lines)
    ]
    a, b = (
        make_run(tmp_path / name, part, categories=CATEGORIES)
        for name, part in (("a", lines), ("b", spoilt))
    )
    change = compare_runs([a, b], QUICK).versus[0].changes["lvis/AP"]
    assert change.verdict == "worse"
    assert change.low <= change.delta <= change.high < 0


def test_a_run_without_labels_has_no_federated_draws(tmp_path):
    """Nothing is made up where no image says what it was judged for."""
    result = score_run(make_run(tmp_path / "a", random_lines(6, seed=2), categories=CATEGORIES))
    (got,) = replicate([result], np.ones((2, 6), dtype=np.int32), coco_draws=2)
    assert not any(key.startswith("lvis/") for key in got.values)
