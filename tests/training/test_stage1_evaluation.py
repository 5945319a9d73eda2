"""Evaluation losses are sums over counts, on the scale of training losses, and leave no trace."""

import pytest
import torch
from stage1_setup import config, rows, scenes, spread, tiny_base, weights
from test_stage1_invariants import ELEVEN, WORKER

from coordeval.dynamics.analysis import analyse
from coordeval.dynamics.discover import read_logs
from coordeval.training.config import BoxLossConfig, MonitorConfig, ObjectiveConfig, TuneConfig
from coordeval.training.config_file import config_yaml
from coordeval.training.stage1 import train_stage1

IGNORED = ("seconds",)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven scenes of uneven length, for training and evaluation."""
    found = scenes(tmp_path_factory.mktemp("data") / "eleven.jsonl", ELEVEN)
    return found | {"eval": found["train"]}


def _config(base, out, data, **trainer):
    return config(
        base,
        out,
        data=data,
        trainer={"learning_rate": 0.0, "per_device_train_batch_size": 11} | trainer,
        objective=ObjectiveConfig(box=BoxLossConfig(ciou=0.5), text_gate=0.1),
    )


def _evaluations(out):
    return [
        {k: v for k, v in row.items() if not k.endswith(IGNORED)}
        for row in rows(out, evaluations=True)
    ]


@pytest.mark.slow
def test_the_evaluation_loss_does_not_depend_on_its_batches(base, data, tmp_path):
    """Evaluation batches of 1, 3 and 11, and two processes, give the same numbers."""
    found = {}
    for size in (1, 3, 11):
        out = tmp_path / str(size)
        train_stage1(_config(base, out, data, per_device_eval_batch_size=size))
        found[size] = _evaluations(out)[0]
    path = tmp_path / "two.yaml"
    settings = _config(
        base, tmp_path / "two", data, per_device_eval_batch_size=2, per_device_train_batch_size=6
    )
    path.write_text(config_yaml(settings))
    done = spread(WORKER, path)
    assert done.returncode == 0, done.stderr[-3000:]
    found["two"] = _evaluations(tmp_path / "two")[0]
    assert found[1]["eval_samples"] == 11
    for other in found.values():
        assert other.keys() == found[1].keys()
        for key, value in found[1].items():
            assert other[key] == pytest.approx(value, rel=2e-5, abs=1e-6), key


@pytest.mark.slow
def test_training_and_evaluation_losses_are_on_one_scale(base, data, tmp_path):
    """At learning rate 0 the step's loss, terms and diagnostics equal the evaluation's."""
    out = tmp_path / "run"
    train_stage1(
        _config(base, out, data, per_device_train_batch_size=1, gradient_accumulation_steps=11)
    )
    step, evaluation = rows(out)[0], _evaluations(out)[0]
    shared = [key for key in step if f"eval_{key}" in evaluation]
    assert {"loss", "loss/text_ce", "loss/ciou", "coord_diag/expected_bin_abs_err_p90"} <= {*shared}
    for key in shared:
        assert step[key] == pytest.approx(evaluation[f"eval_{key}"], rel=2e-5, abs=1e-6), key
    found = analyse(read_logs([str(out)]))
    audits = {audit.key: audit for audit in found.ratios}
    assert {"loss", "loss/soft_ce", "loss/ciou"} <= {*audits}
    assert all(audit.median == pytest.approx(1.0, abs=1e-4) for audit in audits.values())
    assert all(audit.verdict == "same_scale" for audit in audits.values())


@pytest.mark.slow
def test_watching_changes_nothing(base, data, tmp_path):
    """Evaluations, diagnostics and the gradient monitor leave steps and weights as they were."""
    runs = []
    for watched in (True, False):
        out = tmp_path / str(watched)
        settings = config(
            base,
            out,
            data={k: v for k, v in data.items() if k != "eval" or watched},
            trainer={"num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 1}
            if watched
            else {"num_train_epochs": 2},
            tune=TuneConfig(what="lora", lora_dropout=0.3),
            monitor=MonitorConfig(
                gradients_every=1 if watched else 0, diagnostics_every=1 if watched else 0
            ),
        )
        runs.append((train_stage1(settings), rows(out)))
    from safetensors.torch import load_file

    one, other = (load_file(done.checkpoint / "adapter_model.safetensors") for done, _ in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert [row["loss"] for row in runs[0][1]] == [row["loss"] for row in runs[1][1]]
    assert "gradmon/cos_to_total/w1" in runs[0][1][0]
    assert not any(key.startswith(("gradmon/", "coord_diag/")) for key in runs[1][1][0])


@pytest.mark.slow
def test_diagnostics_come_every_so_many_steps(base, data, tmp_path):
    """`diagnostics_every: 2` diagnoses steps 2 and 4, and evaluations always."""
    out = tmp_path / "run"
    settings = config(
        base,
        out,
        data=data,
        trainer={"num_train_epochs": 1},
        monitor=MonitorConfig(diagnostics_every=2),
    )
    train_stage1(settings)
    has = {row["step"]: "coord_diag/p_gt_mean" in row for row in rows(out)}
    assert has == {step: step % 2 == 0 for step in range(1, 7)}
    assert "eval_coord_diag/p_gt_mean" in _evaluations(out)[0]
    assert weights(out / "checkpoint-6")
