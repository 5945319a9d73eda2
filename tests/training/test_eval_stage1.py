"""The evaluator inside `coordeval train`: its rows in train_log.jsonl, its runs in the folder."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from live_training import SCENES, TINY
from stage1_setup import config, tiny_base, weights

from coordeval.training.config import RolloutEvalConfig
from coordeval.training.config_file import build_config
from coordeval.training.rollout_eval.progress import EvalProgress
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


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_stop_in_an_evaluation_is_at_its_step(step, tmp_path, monkeypatch):
    """SIGTERM while a step is evaluated, first and last too: saved there, and gone on with there."""
    checkpoint = tiny_base(tmp_path / "base")
    options = {"every": 2, "at_start": True, "limit": 6, "batch_size": 2}
    whole = train_stage1(_settings(checkpoint, tmp_path / "whole", **options))
    shown = EvalProgress.show

    def stopping(self, progress):
        if self._name == f"step_{step:06d}" and progress.done == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        shown(self, progress)

    monkeypatch.setattr(EvalProgress, "show", stopping)
    settings = _settings(checkpoint, tmp_path / "cut", **options)
    cut = train_stage1(settings, handle_signals=True)
    assert (cut.step, cut.exit_code) == (step, 143)
    monkeypatch.undo()
    done = train_stage1(settings)
    assert (done.step, done.exit_code) == (4, 0)
    assert _evaluated(tmp_path / "cut") == _evaluated(tmp_path / "whole")
    assert _same_weights(whole.checkpoint, done.checkpoint)
    for name in ("step_000000", "step_000002", "step_000004"):
        texts = [
            [json.loads(line)["text"] for line in path.read_text().splitlines()]
            for path in (
                tmp_path / folder / "eval" / name / "rollouts.jsonl" for folder in ("whole", "cut")
            )
        ]
        assert texts[0] == texts[1]


def _settings(checkpoint, out, **rollout_eval):
    return config(
        checkpoint,
        out,
        rollout_eval=RolloutEvalConfig(
            data=str(SCENES), decode={"max_new_tokens": 8}, **rollout_eval
        ),
        trainer={"max_steps": 4, "save_strategy": "steps", "save_steps": 3},
    )


def _evaluated(out):
    lines = map(json.loads, (out / "train_log.jsonl").read_text().splitlines())
    held = [row for row in lines if "eval_rollout/seconds" in row]
    return [{k: v for k, v in row.items() if k != "eval_rollout/seconds"} for row in held]


def _same_weights(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
