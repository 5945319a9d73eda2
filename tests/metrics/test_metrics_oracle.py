"""Other samples: recoverable and systematic misses against a brute-force reference."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest

from coordeval.metrics.catalogue import describe
from coordeval.metrics.oracle_metrics import ORACLE_RATIOS
from coordeval.metrics.protocols import COCO_THRESHOLDS, PROTOCOLS
from coordeval.stats.replicates import replicate

NAMES = ("cat", "dog")


def iou(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(wide, 0) * max(high, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inter / (sum(area) - inter)


def best_pairs(pred, gt, threshold, by_class):
    """Most pairs, then the largest IoU sum, by trying every way."""
    allowed = {
        (p, g): iou(pred[p][1], gt[g][1])
        for p in range(len(pred))
        for g in range(len(gt))
        if (pred[p][0] == gt[g][0] or not by_class) and iou(pred[p][1], gt[g][1]) >= threshold
    }
    best = ((0, 0.0), ())
    for size in range(1, min(len(pred), len(gt)) + 1):
        for pairs in itertools.combinations(allowed, size):
            if len({p for p, _ in pairs}) == len({g for _, g in pairs}) == size:
                best = max(best, ((size, sum(allowed[pair] for pair in pairs)), pairs))
    return {g for _, g in best[1]}


def f1(tp, fp, fn):
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


def reference(images, threshold, by_class):
    """The definitions, object by object; an image is (gt, headline or None, other samples)."""
    missed = recoverable = recovered = trials = gts = 0
    union = 0
    sample = np.zeros(3, dtype=int)
    best_sum = np.zeros(3, dtype=int)
    for gt, headline, written in images:
        others = [other for other in written if other is not None]
        if headline is None or not others:
            continue
        gts += len(gt)
        found = [best_pairs(pred, gt, threshold, by_class) for pred in (headline, *others)]
        for g in range(len(gt)):
            hits = sum(g in part for part in found[1:])
            union += bool(g in found[0] or hits)
            if g not in found[0]:
                missed += 1
                recoverable += hits > 0
                recovered += hits
                trials += len(others)
        counts = [
            (len(part), len(pred) - len(part), len(gt) - len(part))
            for part, pred in zip(found, (headline, *others), strict=True)
        ]
        sample += np.sum(counts[1:], axis=0)
        score = [1.0 if f1(*c) is None else f1(*c) for c in counts]
        errors = [c[1] + c[2] for c in counts]
        best_sum += counts[min(range(len(counts)), key=lambda i: (-score[i], errors[i], i))]
    return {
        "missed": missed,
        "recoverable": recoverable,
        "systematic": missed - recoverable,
        "recoverable_rate": recoverable / missed if missed else None,
        "recover_fraction": recovered / trials if trials else None,
        "recall": (gts - missed) / gts if gts else None,
        "recall_sample": sample[0] / (sample[0] + sample[2]) if gts else None,
        "recall_union": union / gts if gts else None,
        "f1_sample": f1(*sample),
        "f1_best": f1(*best_sum),
    }


def random_images(seed, num=14):
    rng = random.Random(seed)

    def box():
        x, y = rng.randrange(0, 600), rng.randrange(0, 600)
        return [x, y, x + rng.randrange(150, 390), y + rng.randrange(150, 390)]

    def answer(gt):
        if rng.random() < 0.1:
            return None
        out = []
        for name, *_ in gt:
            if rng.random() < 0.7:
                shift = [rng.randrange(0, 60) for _ in range(4)]
                values = [v + s for v, s in zip(gt[len(out) % len(gt)][1], shift, strict=True)]
                out.append((name if rng.random() < 0.8 else rng.choice(NAMES), values))
        return out

    images = []
    for _ in range(num):
        gt = [(rng.choice(NAMES), box()) for _ in range(rng.randrange(0, 4))]
        images.append((gt, answer(gt), [answer(gt) for _ in range(rng.randrange(0, 4))]))
    return images


def lines_of(images, line, rec, text, prefix="im"):
    out = []
    for number, (gt, *rest) in enumerate(images):
        truth = [{"desc": name, "bbox_2d": box} for name, box in gt]
        for index, pred in enumerate((rest[0], *rest[1])):
            answer = "" if pred is None else text(*(rec(name, box) for name, box in pred))
            failed = {"error": "boom", "finish_reason": "error"} if pred is None else {}
            out.append(
                line(answer, truth, id=f"{prefix}{number:03d}", sample_index=index, **failed)
            )
    return out


CLASSES = {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}


@pytest.mark.parametrize("seed", range(8))
def test_every_oracle_metric_equals_brute_force(score, line, rec, text, seed):
    """Both ways of matching, at .50 and as a mean over .50:.95, in whatever order lines stand."""
    images = random_images(seed)
    lines = lines_of(images, line, rec, text)
    random.Random(seed).shuffle(lines)
    got = score(lines, CLASSES).metrics
    for family, by_class in (("oracle", True), ("oracle_loc", False)):
        each = [reference(images, threshold, by_class) for threshold in COCO_THRESHOLDS]
        for leaf, value in each[0].items():
            key = f"{family}/0.50/{leaf}"
            assert got[key] == (value if value is None else pytest.approx(value)), key
            assert describe(key) is not None
        for leaf in ORACLE_RATIOS:
            values = [part[leaf] for part in each]
            want = None if None in values else pytest.approx(sum(values) / len(values))
            assert got[f"{family}/mean/{leaf}"] == want
    assert got["oracle/errors"] == sum(other is None for *_, others in images for other in others)
    taking_part = [
        sum(other is not None for other in others)
        for _, headline, others in images
        if headline is not None and any(other is not None for other in others)
    ]
    assert got["oracle/images"] == len(taking_part)
    assert got["oracle/samples_per_image"] == pytest.approx(np.mean(taking_part))


def test_recoverable_and_systematic_by_hand(score, line, rec, text):
    """Three objects, one found by the headline, one by two of three samples, one by none."""
    boxes = {"cat": (0, 0, 99, 99), "dog": (200, 200, 299, 299), "cow": (500, 500, 599, 599)}
    truth = [{"desc": name, "bbox_2d": list(box)} for name, box in boxes.items()]
    answers = [("cat",), ("cat", "dog"), ("dog",), ()]
    lines = [
        line(text(*(rec(name, boxes[name]) for name in names)), truth, sample_index=index)
        for index, names in enumerate(answers)
    ]
    result = score(lines)
    got = result.metrics
    assert got["oracle/0.50/missed"] == 2
    assert got["oracle/0.50/recoverable"] == got["oracle/0.50/systematic"] == 1
    assert got["oracle/0.50/recover_fraction"] == pytest.approx(2 / (2 * 3))
    assert got["oracle/0.50/recall"] == pytest.approx(1 / 3)
    assert got["oracle/0.50/recall_union"] == pytest.approx(2 / 3)
    assert got["oracle/0.50/recall_sample"] == pytest.approx(3 / 9)
    assert got["oracle/0.50/f1_best"] == pytest.approx(4 / 5)
    truth_rows = result.objects[result.objects["role"] == "gt"].set_index("desc")
    assert truth_rows["samples_found"].to_dict() == {"cat": 1, "dog": 2, "cow": 0}
    assert truth_rows["samples"].tolist() == [3, 3, 3]
    assert result.objects[result.objects["role"] == "pred"]["samples"].isna().all()
    assert got["count/other_samples"] == 3
    assert got["f1/0.50/tp"] == 1


def test_samples_change_no_other_metric(score, line, rec, text):
    """The headline's numbers are those of a run without other samples."""
    lines = lines_of(random_images(5), line, rec, text)
    whole = score(lines, CLASSES).metrics
    alone = score([x for x in lines if x["sample_index"] == 0], CLASSES).metrics
    assert whole.keys() == alone.keys()
    for key, value in alone.items():
        if key.startswith("oracle"):
            assert value is None
        elif key != "count/other_samples":
            assert whole[key] == value, key


def test_only_failed_samples_are_no_trials(score, line, rec, text):
    """Other samples that all failed are counted as errors; there is nothing to hold them to."""
    truth = [{"desc": "cat", "bbox_2d": [0, 0, 99, 99]}]
    got = score([line(text(), truth), line("", truth, sample_index=1, error="boom")]).metrics
    assert (got["oracle/images"], got["oracle/errors"], got["oracle/0.50/missed"]) == (0, 1, 0)
    assert got["oracle/0.50/recoverable_rate"] is got["oracle/0.50/recall_union"] is None
    stray = score([line(text(), truth), line("", truth, id="other", sample_index=1)]).metrics
    assert (stray["oracle/images"], stray["oracle/errors"]) == (0, 0)


def test_crowds_are_no_misses(score, line, rec, text):
    """Crowd regions are neither missed nor recovered, and have no entry in the objects table."""
    truth = [{"desc": "cat", "bbox_2d": [0, 0, 400, 400], "iscrowd": True}]
    result = score(
        [line(text(), truth), line(text(rec("cat", (0, 0, 400, 400))), truth, sample_index=1)]
    )
    assert result.metrics["oracle/0.50/missed"] == 0
    assert result.objects["samples"].isna().all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_draw_is_the_score_of_the_resampled_run(score, line, rec, text, protocol):
    """Recipes re-make every oracle metric, for images that really stand there so often."""
    images = random_images(11, num=20)
    options = {"protocol": PROTOCOLS[protocol]}
    own = score(lines_of(images, line, rec, text), CLASSES, **options)
    weights = np.random.default_rng(1).integers(0, 4, size=len(images)).astype(np.int32)
    repeated = [image for image, n in zip(images, weights, strict=True) for _ in range(n)]
    want = score(lines_of(repeated, line, rec, text), CLASSES, **options).metrics
    (got,) = replicate([own], weights[None], coco_draws=1)
    keys = [key for key in own.metrics if key.startswith("oracle") and own.metrics[key] is not None]
    assert len(keys) >= 20
    for key in keys:
        np.testing.assert_allclose(
            got.values[key], [own.metrics[key], want[key]], rtol=1e-12, err_msg=key
        )


def test_the_per_image_table_adds_up(score, line, rec, text):
    """Columns of other samples stand in per_image and sum to the metrics; without samples none."""
    lines = lines_of(random_images(2), line, rec, text)
    result = score(lines, CLASSES)
    for leaf in ("missed", "recoverable", "systematic"):
        assert (
            result.per_image[f"oracle_{leaf}@0.50"].sum() == result.metrics[f"oracle/0.50/{leaf}"]
        )
    alone = score([x for x in lines if x["sample_index"] == 0], CLASSES)
    assert not [name for name in alone.per_image.columns if name.startswith("oracle")]
    json.dumps(result.to_json(), allow_nan=False)
