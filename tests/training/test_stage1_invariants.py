"""One optimizer step is the same however its samples are cut into batches and processes."""

from pathlib import Path

import pytest
import torch
from stage1_setup import config, rows, scenes, spread, tiny_base, weights

from coordeval.training.config import BoxLossConfig, MonitorConfig, ObjectiveConfig
from coordeval.training.stage1 import train_stage1

WORKER = Path(__file__).with_name("stage1_worker.py")
ELEVEN = [f"{n:04d}" for n in range(10)] + ["0010/empty"]
OBJECTIVES = {
    "mixed": ObjectiveConfig(text_gate=0.1),
    "boxes": ObjectiveConfig(
        preset="mixed", text_gate=0.1, box=BoxLossConfig(smooth_l1=1.0, ciou=0.5, giou=0.25)
    ),
    "pure_ce": ObjectiveConfig(preset="pure_ce"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven scenes of uneven length, one without any object: a window of 8 and one of 3."""
    return scenes(tmp_path_factory.mktemp("data") / "eleven.jsonl", ELEVEN)


def _config(base, out, data, name, batch, accumulation, **rest):
    trainer = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "optim": "sgd",
        "learning_rate": 0.01,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
    }
    return config(
        base,
        out,
        data=data,
        trainer=trainer,
        objective=OBJECTIVES[name],
        monitor=MonitorConfig(gradients_every=1),
        **rest,
    )


def _same(one, other, tolerance=2e-5):
    """Both runs logged the same steps and ended with the same weights."""
    left, right = rows(one), rows(other)
    assert len(left) == len(right) > 1
    skipped = {"seconds", "tokens_per_second", "samples_per_second", "accum/grad_steps"}
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - skipped - {"gradmon/seconds", "epoch"}:
            assert a[key] == pytest.approx(b[key], rel=tolerance, abs=1e-5), (key, a["step"])
    step = left[-1]["step"]
    ours, theirs = weights(one / f"checkpoint-{step}"), weights(other / f"checkpoint-{step}")
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_batches_and_accumulation_give_the_same_steps(name, base, data, tmp_path):
    """Batch 8 x 1 and batch 1 x 8 log the same terms and reach the same weights."""
    runs = {}
    for batch, accumulation in ((8, 1), (1, 8)):
        out = tmp_path / f"{batch}x{accumulation}"
        train_stage1(_config(base, out, data, name, batch, accumulation))
        runs[batch] = out
    _same(runs[8], runs[1])
    steps = rows(runs[8])
    assert [row["samples"] for row in steps] == [8, 3] * (len(steps) // 2) or len(steps) == 2
    assert sum(row["samples"] for row in steps) == 11


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boxes"])
def test_two_processes_give_the_same_steps(name, base, data, tmp_path):
    """Two processes x batch 1 x accumulation 4 equal one process with batch 8."""
    train_stage1(_config(base, tmp_path / "one", data, name, 8, 1))
    settings = _config(base, tmp_path / "two", data, name, 1, 4)
    from coordeval.training.config_file import config_yaml

    path = tmp_path / "two.yaml"
    path.write_text(config_yaml(settings))
    done = spread(WORKER, path)
    assert done.returncode == 0, done.stderr[-3000:]
    _same(tmp_path / "one", tmp_path / "two")
