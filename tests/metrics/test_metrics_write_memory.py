"""What is written block by block is what one list would give, and odd texts survive."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from coordeval.jsonl import dump_line
from coordeval.metrics import write
from coordeval.metrics.score import score_run
from coordeval.metrics.write import write_score
from coordeval.runs import open_run

BOX = '{"desc": "%s", "bbox_2d": [<|coord_%d|>, <|coord_20|>, <|coord_300|>, <|coord_400|>]}'


def run_of(folder, names):
    lines = [
        {
            "id": str(number),
            "width": 100,
            "height": 100,
            "gt": [{"desc": "cat", "bbox_2d": [1, 2, 30, 40]}],
            "text": '{"objects": [' + ", ".join(BOX % (name, k) for k, name in enumerate(names)),
        }
        for number in range(3)
    ]
    path = folder / "lines.jsonl"
    path.write_bytes(b"".join(dump_line(line) for line in lines))
    return open_run(path)


@pytest.mark.parametrize("block", [1, 2, 5, 6, 7, 4096])
def test_coco_results_in_blocks_are_the_whole_list(block, tmp_path, monkeypatch):
    """Whatever the block, the file is the JSON array of all results, also where there are none."""
    monkeypatch.setattr(write, "COCO_BLOCK", block)
    for names in ([], ["cat"], ["cat", "cat"]):
        result = score_run(run_of(tmp_path, names))
        write_score(result, tmp_path / "score")
        stored = json.loads((tmp_path / "score" / "coco_results.json").read_bytes())
        assert stored == result.coco_results
        assert len(stored) == 3 * len(names)


def test_only_texts_that_cannot_be_stored_are_escaped(tmp_path):
    """A lone surrogate in an id is an escape in the tables; every other text is as it was."""
    path = run_of(tmp_path, ["cat", "é 猫 🐈", "plain"]).rollouts_path
    path.write_bytes(path.read_bytes().replace(b'"id":"1"', b'"id":"1\\ud83d"'))
    result = score_run(open_run(path))
    assert result.per_image["id"].tolist() == ["0", "1\ud83d", "2"]
    write_score(result, tmp_path / "score")
    images = pd.read_parquet(tmp_path / "score" / "per_image.parquet")
    assert images["id"].tolist() == ["0", "1\\ud83d", "2"]
    objects = pd.read_parquet(tmp_path / "score" / "objects.parquet")
    preds = objects[objects["role"] == "pred"]
    assert preds["id"].tolist() == ["0"] * 3 + ["1\\ud83d"] * 3 + ["2"] * 3
    assert preds["desc"].tolist() == ["cat", "é 猫 🐈", "plain"] * 3
    assert result.per_image["id"].tolist() == ["0", "1\ud83d", "2"]
