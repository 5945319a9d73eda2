"""Rollout steps on two processes are those of one, also where a process has nothing to roll out."""

from pathlib import Path

import pytest
from stage1_setup import rows, scenes, spread, tiny_base
from stage2_setup import assert_same_steps, config

from coordeval.training.config_file import config_yaml
from coordeval.training.stage2.entry import train_stage2

WORKER = Path(__file__).with_name("stage2_worker.py")
FIVE = ["0000", "0001", "0002", "0003", "0010/empty"]


def _config(base, out, data, batch, accumulation):
    return config(
        base,
        out,
        stage2={
            "b_ratio": 1.0,
            "channel_b": {
                "rollout": {
                    "views": 2,
                    "batch_size": 3,
                    "decode": {"max_new_tokens": 20, "temperature": 1.0},
                }
            },
        },
        data=data,
        trainer={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.01,
            "num_train_epochs": 2,
        },
    )


@pytest.mark.slow
def test_two_processes_roll_out_what_one_would(tmp_path):
    """Sampled views, telemetry, losses and weights; the last window holds one sample alone."""
    base = tiny_base(tmp_path / "base")
    data = scenes(tmp_path / "five.jsonl", FIVE)
    train_stage2(_config(base, tmp_path / "one", data, 4, 1))
    path = tmp_path / "two.yaml"
    path.write_text(config_yaml(_config(base, tmp_path / "two", data, 1, 2)))
    done = spread(WORKER, path, "rollouts")
    assert done.returncode == 0, done.stderr[-3000:]
    logged = rows(tmp_path / "one")
    assert [row["rollout/samples/total"] for row in logged] == [4, 1, 4, 1]
    assert [row["rollout/target/rollouts"] for row in logged] == [8, 2, 8, 2]
    assert [row["samples"] for row in logged] == [8, 2, 8, 2]  # each view is an example
    assert_same_steps(tmp_path / "one", tmp_path / "two")
