"""Sigma that narrows over a training: logged, followed by the loss, exact after a resume."""

import pytest
import torch
from stage1_setup import SCENES, config, rows, tiny_base, weights
from test_stage1_resume import SignalAt

from coordeval.training.config import ObjectiveConfig
from coordeval.training.losses.sigma import sigma_at
from coordeval.training.stage1 import train_stage1

OBJECTIVE = ObjectiveConfig(sigma=8.0, sigma_end=1.0, sigma_steps=5, truncate=None)
TIMES = {"seconds", "tokens_per_second", "samples_per_second", "eval_seconds"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


def _config(base, out, objective=OBJECTIVE, **trainer):
    return config(
        base,
        out,
        data={"eval": str(SCENES), "eval_limit": 2, "limit": 4},
        trainer={"num_train_epochs": 4, "eval_strategy": "steps", "eval_steps": 1} | trainer,
        objective=objective,
    )


def _logged(out, *, evaluations=False):
    found = rows(out, evaluations=evaluations)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


@pytest.mark.slow
def test_losses_are_taken_at_the_sigma_of_their_step(base, tmp_path):
    """At learning rate 0 each step's terms, and its evaluation's, are those of its own sigma."""
    still = {"learning_rate": 0.0, "train_sampling_strategy": "sequential"}
    train_stage1(_config(base, tmp_path / "run", **still))
    steps = rows(tmp_path / "run")
    wanted = [8 * (1 / 8) ** (min(step, 5) / 5) for step in range(8)]
    assert [row["sigma"] for row in steps] == pytest.approx(wanted)
    assert len({row["loss/soft_ce"] for row in steps[::2]}) > 2
    for number in (0, 2, 6):
        plain = ObjectiveConfig(sigma=sigma_at(OBJECTIVE, number), truncate=None)
        out = tmp_path / str(number)
        train_stage1(_config(base, out, plain, **still))
        for evaluations in (False, True):
            here = _logged(tmp_path / "run", evaluations=evaluations)[number]
            there = _logged(out, evaluations=evaluations)[number]
            here.pop("sigma", None)
            assert here == there
        assert "sigma" not in rows(out)[0]


@pytest.mark.slow
def test_an_annealed_training_resumes_exactly(base, tmp_path):
    """Interrupted in the middle, evaluation owed: the same rows and weights, bit for bit."""
    whole = train_stage1(_config(base, tmp_path / "whole"))
    cut = train_stage1(
        _config(base, tmp_path / "cut"), callbacks=[SignalAt(3)], handle_signals=True
    )
    assert cut.step == 3
    again = train_stage1(_config(base, tmp_path / "cut"))
    for evaluations in (False, True):
        found = [_logged(tmp_path / name, evaluations=evaluations) for name in ("whole", "cut")]
        assert len(found[0]) == 8 and found[0] == found[1]
    ours, theirs = weights(whole.checkpoint), weights(again.checkpoint)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
