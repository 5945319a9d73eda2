"""Monitor dumps: failures first, nothing cut, and everything that explains them."""

from __future__ import annotations

import json

import pytest

from coordeval.coords import NUM_BINS
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.training.rollout_eval.monitor_dumps import monitor_dump, write_dump
from coordeval.training.rollout_eval.runs import Evaluated

GOOD = '{"desc": "cat", "bbox_2d": [<|coord_100|>, <|coord_100|>, <|coord_500|>, <|coord_500|>]}'
FAR = '{"desc": "cat", "bbox_2d": [<|coord_700|>, <|coord_700|>, <|coord_800|>, <|coord_800|>]}'
BROKEN = '{"desc": "cat", "bbox_2d": [第九, <|coord_1|>, <|coord_2|>, <|coord_3|>]}'
LONG = '{"desc": "' + "x" * 9000 + '", "bbox_3d": [<|coord_1|>]}'


def listing(*records):
    return '{"objects": [' + ", ".join(records) + "]}"


TEXTS = {
    "fine": (listing(GOOD), "stop"),
    "low": (listing(FAR), "stop"),
    "dropped": (listing(GOOD, BROKEN, LONG), "stop"),
    "cut": ('{"objects": [' + GOOD + ", {", "length"),
    "looping": (listing(*[FAR] * 6), "stop"),
    "prose": ("no \ud800 idea", "stop"),
    "fine too": (listing(GOOD), "stop"),
}


@pytest.fixture
def scored(tmp_path):
    scale = 999 / (NUM_BINS - 1)
    box = [100 * scale, 100 * scale, 500 * scale, 500 * scale]
    rows = [
        {
            "id": name,
            "width": 1000,
            "height": 1000,
            "gt": [{"desc": "cat", "bbox_2d": box}],
            "text": text,
            "finish_reason": reason,
        }
        for name, (text, reason) in TEXTS.items()
    ]
    rows.append({**rows[0], "id": "broken", "text": "", "finish_reason": "error", "error": "gone"})
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = score_run(open_run(path))
    evaluated = Evaluated(
        step=300,
        epoch=1.5,
        path=tmp_path / "eval" / "step_000300",
        metrics=result.metrics,
        seconds=1.0,
    )
    return result, evaluated


def test_failures_come_first_and_fine_ones_last(scored):
    """Errors, loops, cut texts, nothing readable, drops, low F1; then the rest in run order."""
    result, evaluated = scored
    dump = monitor_dump(result, evaluated, count=10, max_new_tokens=50)
    assert [item["id"] for item in dump["samples"]] == [
        "broken",
        "looping",
        "cut",
        "prose",
        "dropped",
        "low",
        "fine",
        "fine too",
    ]
    assert dump["num_failures"] == 6 and dump["num_samples"] == 8
    assert dump["samples"][1]["failures"] == ["loop", "low_f1"]
    assert dump["samples"][-1]["failures"] == []


def test_nothing_is_cut_and_every_drop_is_explained(scored):
    """Texts are whole; a dropped record has its reason, its span and its own text."""
    result, evaluated = scored
    samples = {
        item["id"]: item
        for item in monitor_dump(result, evaluated, count=99, max_new_tokens=50)["samples"]
    }
    for name, (text, reason) in TEXTS.items():
        assert samples[name]["text"] == text and samples[name]["finish_reason"] == reason
    dropped = samples["dropped"]
    assert [item["reason"] for item in dropped["dropped"]] == ["wrong_arity", "unexpected_keys"]
    assert [item["text"] for item in dropped["dropped"]] == [BROKEN, LONG]
    assert dropped["dropped"][0]["evidence"] == "第九" and dropped["dropped"][0]["slot"] == 0
    for item in dropped["dropped"]:
        assert dropped["text"][item["start"] : item["end"]] == item["text"]
    assert dropped["matches"] == [{"prediction": 0, "ground_truth": 0}]
    assert dropped["predictions"][0]["verdict"] == "right" and dropped["missed"] == []
    assert dropped["predictions"][0]["box_px"] == dropped["ground_truth"][0]["box_px"]
    assert samples["low"]["missed"] == [0] and samples["low"]["matches"] == []
    assert samples["looping"]["loops"][0]["repeats"] == 6
    assert samples["broken"]["error"] == "gone"
    counts = dropped["counts"]
    assert (counts["found"], counts["valid"], counts["dropped"]) == (3, 1, 2)


def test_the_number_of_samples_is_bounded(scored, tmp_path):
    """`count` samples, the worst ones; the file says its own bounds and parses."""
    result, evaluated = scored
    path = tmp_path / "monitor_dumps" / "step_000300.json"
    write_dump(result, evaluated, path, count=4, max_new_tokens=50)
    dump = json.loads(path.read_text(encoding="utf-8"))
    assert [item["id"] for item in dump["samples"]] == ["broken", "looping", "cut", "prose"]
    assert dump["bound"] == {"samples": 4, "max_new_tokens": 50}
    assert dump["format"] == "coordeval-monitor/1"
    assert (dump["step"], dump["epoch"], dump["run"]) == (300, 1.5, "eval/step_000300")
    assert dump["metrics"] == result.metrics
    assert "\\ud800" in dump["samples"][3]["text"]  # not storable as it is, but not lost


def test_keys_stay_what_they_are(scored):
    """What others read from the dump is a contract."""
    result, evaluated = scored
    dump = monitor_dump(result, evaluated, count=2, max_new_tokens=50)
    assert list(dump) == [
        "format",
        "step",
        "epoch",
        "run",
        "bound",
        "num_samples",
        "num_failures",
        "iou",
        "metrics",
        "samples",
    ]
    assert list(dump["samples"][0]) == [
        "id",
        "image",
        "width",
        "height",
        "failures",
        "counts",
        "finish_reason",
        "error",
        "guard",
        "issues",
        "conforming",
        "text",
        "dropped",
        "loops",
        "ground_truth",
        "predictions",
        "matches",
        "missed",
    ]
