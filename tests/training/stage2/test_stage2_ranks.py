"""A mixed training on two processes takes the steps of one process."""

import json
from pathlib import Path

import pytest
from stage1_setup import rows, scenes, spread, tiny_base
from stage2_setup import assert_same_steps, config, stand_in

from coordeval.training.config import MonitorConfig
from coordeval.training.config_file import config_yaml
from coordeval.training.stage2 import entry
from coordeval.training.stage2.entry import train_stage2

WORKER = Path(__file__).with_name("stage2_worker.py")
NINE = [f"{n:04d}" for n in range(8)] + ["0010/empty"]


def _config(base, out, data, batch, accumulation):
    return config(
        base,
        out,
        stage2={"b_ratio": 0.5},
        data=data,
        trainer={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.01,
            "max_grad_norm": 0.0,
            "num_train_epochs": 2,
        },
        monitor=MonitorConfig(gradients_every=1),
    )


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch):
    """2 processes x batch 1 x 2 equal batch 4: A and B steps, a window with a filler, telemetry."""
    monkeypatch.setattr(entry, "_channel_b", stand_in)
    base = tiny_base(tmp_path / "base")
    data = scenes(tmp_path / "nine.jsonl", NINE)
    train_stage2(_config(base, tmp_path / "one", data, 4, 1))
    path = tmp_path / "two.yaml"
    path.write_text(config_yaml(_config(base, tmp_path / "two", data, 1, 2)))
    done = spread(WORKER, path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["samples"] for row in rows(tmp_path / "one")] == [4, 4, 1, 4, 4, 1]
    assert [row["channel"] for row in rows(tmp_path / "one")] == ["A", "B"] * 3
    assert_same_steps(tmp_path / "one", tmp_path / "two")
    assert json.loads((tmp_path / "two/training.json").read_text())["processes"] == 2
