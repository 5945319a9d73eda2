"""Mixed trainings that are killed or interrupted in a B step go on as if nothing had been."""

import os
import signal

import pytest
from stage1_setup import SCENES, rows, tiny_base
from stage2_setup import assert_equal_runs, config, killed_worker, stand_in

from coordeval.training.config import TuneConfig
from coordeval.training.config_file import config_yaml
from coordeval.training.loop.checkpoints import why_incomplete
from coordeval.training.stage2 import entry
from coordeval.training.stage2.entry import train_stage2

RATIO = 0.4  # B in steps 3, 5, 8, 10, ... (from 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(autouse=True)
def stood_in(monkeypatch):
    """Channel B's rollouts are one forward pass."""
    monkeypatch.setattr(entry, "_channel_b", stand_in)


def _config(base, out, **rest):
    return config(
        base,
        out,
        stage2={
            "b_ratio": RATIO,
            "channel_a": {"context": {"kind": "gumbel_softmax"}},
            "curriculum": {"start": 0.3, "steps": 5},
        },
        data={"order": "random", "limit": 5, "eval": str(SCENES), "eval_limit": 2},
        trainer={
            "num_train_epochs": 3,
            "save_strategy": "steps",
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 4,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 2,
        },
        tune=TuneConfig(what="lora", lora_dropout=0.3) if "lora" in rest else TuneConfig(),
    )


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The same training without any interruption, and its B steps (from 1)."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry, "_channel_b", stand_in)
        train_stage2(_config(base, out))
    return out, [row["step"] for row in rows(out) if row["channel"] == "B"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["rollouts", "update"])
def test_a_training_killed_in_a_b_step_resumes_exactly(place, base, whole, tmp_path):
    """Kill -9 after a B step's rollouts, or before its update: the same log and weights after."""
    reference, b_steps = whole
    at = next(step for step in b_steps if step > 4)
    out = tmp_path / "cut"
    path = tmp_path / "cut.yaml"
    path.write_text(config_yaml(_config(base, out)))
    done = killed_worker(path, "stand_in", at, place)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [row["step"] for row in rows(out)] == list(range(1, at))
    train_stage2(_config(base, out))
    assert_equal_runs(reference, out)


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_training_terminated_in_a_b_step_resumes_exactly(
    tune, base, whole, tmp_path, monkeypatch
):
    """SIGTERM among the rollouts: the step is finished and saved, exit code 143, then all as one."""
    reference, b_steps = whole
    lora = {"lora": True} if tune == "lora" else {}
    if lora:
        reference = tmp_path / "whole"
        train_stage2(_config(base, reference, **lora))
    at = next(step for step in b_steps if step > 4)

    def interrupted(parts, notify, trainer):
        channel = stand_in(parts, notify, trainer)
        prepare = channel.prepare

        def prepared(batches, step, **rest):
            if step + 1 == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return prepare(batches, step, **rest)

        channel.prepare = prepared
        return channel

    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(entry, "_channel_b", interrupted)
        cut = train_stage2(_config(base, out, **lora), handle_signals=True)
    assert (cut.step, cut.exit_code) == (at, 143)
    assert rows(out)[-1]["channel"] == "B"
    assert why_incomplete(out / f"checkpoint-{at}") is None
    train_stage2(_config(base, out, **lora))
    assert_equal_runs(reference, out)
