"""The evaluator inside `coordeval train`: its rows in train_log.jsonl, its runs in the folder."""

from __future__ import annotations

import json

import pytest
from live_training import SCENES, TINY

from coordeval.training.config_file import build_config
from coordeval.training.stage1 import train_stage1
from coordeval.training.tiny.model import write_random_checkpoint


def train(folder, checkpoint, **rollout_eval):
    raw = {
        "model": str(checkpoint),
        "output_dir": str(folder),
        "data": {"train": str(SCENES), "eval": str(SCENES), "limit": 8, "eval_limit": 2},
        "rollout_eval": {"limit": 3, "decode": {"max_new_tokens": 200}} | rollout_eval,
        "trainer": {
            "max_steps": 3,
            "per_device_train_batch_size": 2,
            "save_steps": 3,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
        },
    }
    train_stage1(build_config(raw, where="test"))
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_rows_of_evaluations_stand_beside_those_of_steps(tmp_path):
    """Each evaluation is one row under its step; the steps' own rows are as without it."""
    checkpoint = write_random_checkpoint(tmp_path / "base", config=TINY)
    metric = "samples/truncated_rate"
    rows = train(tmp_path / "with", checkpoint, every=2, at_start=True, best_metric=metric)
    plain = train(tmp_path / "without", checkpoint, at_end=False)
    evaluations = [row for row in rows if "eval_rollout/seconds" in row]
    assert [row["step"] for row in evaluations] == [0, 2, 3]
    for row in evaluations:
        run = tmp_path / "with" / "eval" / f"step_{row['step']:06d}"
        scored = json.loads((run / "score" / "metrics.json").read_text())["metrics"]
        logged = {k.removeprefix("eval_rollout/"): v for k, v in row.items()}
        assert all(logged[k] == v for k, v in scored.items() if v is not None)
    steps, without = (
        [{k: row[k] for k in ("step", "loss", "grad_norm")} for row in all_rows if "loss" in row]
        for all_rows in (rows, plain)
    )
    assert steps == without and len(steps) == 3
    best = json.loads((tmp_path / "with" / "best.json").read_text())
    assert best["metric"] == metric and (tmp_path / "with" / "best" / "config.json").exists()
