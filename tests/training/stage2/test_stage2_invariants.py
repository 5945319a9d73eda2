"""One step of real rollouts is the same however its samples are cut; killed ones resume exactly."""

from pathlib import Path

import pytest
from stage1_setup import ROOT, rows, scenes, spread, tiny_base
from stage2_setup import assert_equal_runs, assert_same_steps, config, killed_worker

from coordeval.training.config_file import config_yaml
from coordeval.training.stage2.entry import train_stage2

WORKER = Path(__file__).with_name("stage2_worker.py")
CHECKPOINT = ROOT / "fixtures" / "ckpt-loops"
FIVE = [f"{n:04d}" for n in range(4)] + ["0010/empty"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five scenes of uneven length, one without any object: a window of 4 and one of 1."""
    return scenes(tmp_path_factory.mktemp("data") / "five.jsonl", FIVE)


def _config(out, data, target, batch, accumulation):
    return config(
        CHECKPOINT,
        out,
        stage2={
            "b_ratio": 1.0,
            "channel_b": {
                "target": target,
                "rollout": {"batch_size": 1, "decode": {"max_new_tokens": 160}},
            },
        },
        data=data,
        trainer={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.01,
            "max_grad_norm": 0.0,
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", ["clean", "prefix"])
def test_steps_of_rollouts_do_not_depend_on_their_batches(target, data, tmp_path):
    """A checkpoint that repeats itself: batch 4 x 1 and 1 x 4 are taught the same."""
    for batch, accumulation in ((4, 1), (1, 4)):
        train_stage2(_config(tmp_path / str(batch), data, target, batch, accumulation))
    assert_same_steps(tmp_path / "4", tmp_path / "1")
    logged = rows(tmp_path / "4")
    assert [row["samples"] for row in logged] == [4, 1]
    assert all(row["rollout/tokens/total"] > 0 and row["tokens/B/text_ce"] > 0 for row in logged)


@pytest.mark.slow
def test_two_processes_roll_out_what_one_does(data, tmp_path):
    """2 processes x batch 1 x 2 equal batch 4: telemetry over both, a filler among the batches."""
    train_stage2(_config(tmp_path / "one", data, "clean", 4, 1))
    path = tmp_path / "two.yaml"
    path.write_text(config_yaml(_config(tmp_path / "two", data, "clean", 1, 2)))
    done = spread(WORKER, path, "rollouts")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_steps(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_sampled_views_are_the_same_after_a_kill(tmp_path):
    """Killed after a B step's sampled rollouts: they are drawn again, and the log is the same."""
    base = tiny_base(tmp_path / "base")

    def settings(out):
        return config(
            base,
            out,
            stage2={
                "b_ratio": 0.5,
                "channel_b": {"rollout": {"views": 2, "decode": {"max_new_tokens": 24}}},
            },
            data={"order": "random", "limit": 4},
            trainer={"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1},
        )

    train_stage2(settings(tmp_path / "whole"))
    path = tmp_path / "cut.yaml"
    path.write_text(config_yaml(settings(tmp_path / "cut")))
    done = killed_worker(path, "rollouts", 4, "rollouts")
    assert [row["step"] for row in rows(tmp_path / "cut")] == [1, 2, 3], done.stderr[-2000:]
    train_stage2(settings(tmp_path / "cut"))
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert all(row["rollout/views/samples/total"] == 2 for row in rows(tmp_path / "cut")[1::2])
