"""A mixed training: the channel of every step, its log, its normalisation, its evaluation."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stage1_setup import SCENES, rows, scenes, tiny_base, weights
from stage1_setup import config as stage1_config
from stage2_setup import StandIn, assert_same_steps, config, objective_a, stand_in
from transformers import TrainerCallback

from coordeval.errors import ConfigError
from coordeval.training.assembly import assemble
from coordeval.training.config import MonitorConfig
from coordeval.training.loop.arguments import training_arguments
from coordeval.training.loop.nonfinite import TrainingDiverged
from coordeval.training.loop.stopping import StopRequest
from coordeval.training.stage1 import train_stage1
from coordeval.training.stage2 import entry
from coordeval.training.stage2.entry import check_stage2, require_whole_weights, train_stage2
from coordeval.training.stage2.schedule import is_b_step

ELEVEN = [f"{n:04d}" for n in range(10)] + ["0010/empty"]
A_TERMS = {"A1/text_ce", "A2/soft_ce", "A2/w1", "A2/gate", "A2/smooth_l1", "A2/ciou"}
B_TERMS = {f"B/{name}" for name in ("text_ce", "hard_ce", "w1", "gate", "ciou", "unlikelihood")}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven scenes of uneven length, one without any object: a window of 8 and one of 3."""
    return scenes(tmp_path_factory.mktemp("data") / "eleven.jsonl", ELEVEN)


@pytest.fixture
def stood_in(monkeypatch):
    """Channel B's rollouts are one forward pass."""
    monkeypatch.setattr(entry, "_channel_b", stand_in)


def _named(row, prefix):
    return {key.removeprefix(prefix) for key in row if key.startswith(prefix)}


@pytest.mark.slow
def test_rows_hold_the_channel_that_ran(base, stood_in, tmp_path):
    """Steps follow the schedule; a row has its channel's terms, diagnoses and telemetry alone."""
    out = tmp_path / "run"
    settings = config(
        base,
        out,
        stage2={"b_ratio": 0.3},
        data={"limit": 7},
        trainer={"per_device_train_batch_size": 1},
        monitor=MonitorConfig(diagnostics_every=2, gradients_every=3),
    )
    train_stage2(settings)
    logged = rows(out)
    assert [row["channel"] for row in logged] == [
        "B" if is_b_step(step, 0.3) else "A" for step in range(7)
    ]
    assert {row["channel"] for row in logged} == {"A", "B"}
    for row in logged:
        terms, places = (A_TERMS, {"A1", "A2"}) if row["channel"] == "A" else (B_TERMS, {"B"})
        assert _named(row, "loss/") == _named(row, "tokens/") == terms
        diagnosed = {key.split("/")[0] for key in _named(row, "coord_diag/")}
        assert diagnosed == (places if row["step"] % 2 == 0 else set())
        assert _named(row, "token_acc/") == diagnosed
        assert ("context/off_manifold" in row) == (row["channel"] == "A")
        assert ("rollout/seconds" in row) == ("rollout/right" in row) == (row["channel"] == "B")
        monitored = terms if row["step"] % 3 == 0 else set()
        assert _named(row, "gradmon/grad_norm/") == monitored
    whole = [row["tokens/A1/text_ce"] for row in logged if row["channel"] == "A"]
    weighed = [row["tokens/B/text_ce"] for row in logged if row["channel"] == "B"]
    assert all(isinstance(count, int) for count in whole)
    assert any(not float(count).is_integer() for count in weighed)


def _cut(base, out, data, ratio, batch, accumulation):
    return config(
        base,
        out,
        stage2={"b_ratio": ratio},
        data=data,
        trainer={
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.01,
            "max_grad_norm": 0.0,
        },
        monitor=MonitorConfig(gradients_every=1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.5])
def test_batches_and_accumulation_give_the_same_steps(ratio, base, data, stood_in, tmp_path):
    """Batch 8 x 1 and 1 x 8 take the same steps in channel A, in B, and in one of each."""
    for batch, accumulation in ((8, 1), (1, 8)):
        out = tmp_path / str(batch)
        train_stage2(_cut(base, out, data, ratio, batch, accumulation))
    assert_same_steps(tmp_path / "8", tmp_path / "1")
    assert [row["samples"] for row in rows(tmp_path / "8")] == [8, 3]


@pytest.mark.slow
def test_the_evaluation_loss_is_stage_1s_under_channel_as_weights(base, stood_in, tmp_path):
    """At learning rate 0 both stages' evaluations are equal, whatever channel ran last."""
    data = {"limit": 4, "eval": str(SCENES), "eval_limit": 5}
    trainer = {"learning_rate": 0.0, "eval_strategy": "steps", "eval_steps": 1}
    train_stage1(
        stage1_config(base, tmp_path / "1", data=data, trainer=trainer, objective=objective_a())
    )
    train_stage2(config(base, tmp_path / "2", stage2={"b_ratio": 0.5}, data=data, trainer=trainer))
    found = [
        [{k: v for k, v in row.items() if k != "eval_seconds"} for row in found]
        for found in (rows(tmp_path / name, evaluations=True) for name in "12")
    ]
    assert len(found[0]) == 2 and found[0] == found[1]
    one = {key: value for key, value in found[0][0].items() if key not in ("step", "epoch")}
    assert one.items() <= found[0][1].items()


@pytest.mark.slow
def test_one_iteration_of_channel_a_is_the_evaluated_objective(base, stood_in, tmp_path):
    """With one iteration a step's loss over a set is the evaluation loss over it."""
    settings = config(
        base,
        tmp_path / "run",
        stage2={"b_ratio": 0.0, "channel_a": {"iterations": 1}},
        data={"limit": 4, "eval": str(SCENES), "eval_limit": 4},
        trainer={"learning_rate": 0.0, "per_device_train_batch_size": 4},
    )
    train_stage2(settings)
    (step,), (evaluated,) = rows(tmp_path / "run"), rows(tmp_path / "run", evaluations=True)
    assert step["loss"] == pytest.approx(evaluated["eval_loss"], rel=2e-6)
    for key in A_TERMS:
        own = step[f"loss/{key}"]
        assert own == pytest.approx(evaluated[f"eval_loss/{key.split('/')[1]}"], rel=2e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_term_gradients_of_both_channels_add_up_to_the_real_one(step, base, stood_in, tmp_path):
    """On the last norm's gain the monitor's terms sum to what the step computes, in A and in B."""
    settings = config(
        base, tmp_path / "run", stage2={"b_ratio": 0.5}, monitor=MonitorConfig(gradients_every=1)
    )
    parts = assemble(settings, training_arguments(settings), lambda _: None)
    trainer = entry.make_stage2_trainer(parts, StopRequest(), [])
    trainer.state.global_step = step
    window, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 2, "cpu")
    for batch in window:
        trainer.compute_loss(trainer.model, batch).backward()
    gain = trainer.model.model.language_model.norm.weight.grad.double().numpy()
    own = {name: value.numpy() for name, value in trainer._gradient_monitor._sums.items()}
    assert set(own) == (B_TERMS if step else A_TERMS)
    np.testing.assert_allclose(sum(own.values()), gain, rtol=1e-4, atol=1e-7)


class Poison(TrainerCallback):
    """Makes the head NaN before a step's gradient is looked at."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step + 1 == self.step:
            with torch.no_grad():
                model.get_output_embeddings().weight[5] = math.nan


@pytest.mark.slow
@pytest.mark.parametrize(("step", "channel"), [(1, "A"), (2, "B")])
def test_a_step_that_is_not_finite_names_its_channel(step, channel, base, stood_in, tmp_path):
    """Message and dump say which channel's step it was; no row is written for it."""
    settings = config(base, tmp_path / "run", stage2={"b_ratio": 0.5})
    with pytest.raises(
        TrainingDiverged, match=rf"^step {step} \(channel {channel}\): the "
    ) as stop:
        train_stage2(settings, callbacks=[Poison(step)])
    assert stop.value.exit_code == 3
    dump = json.loads((tmp_path / f"run/nonfinite/step_{step:06d}.json").read_text())
    assert dump["channel"] == channel
    assert all(name.startswith(channel) for name in dump["term_sums"])
    assert (
        len(rows(tmp_path / "run")) == step - 1
        if (tmp_path / "run/train_log.jsonl").exists()
        else 1
    )


@pytest.mark.slow
def test_a_dry_run_tries_both_channels_and_writes_nothing(base, monkeypatch, tmp_path):
    """It gives the first A step's loss and one B step's, and closes what it opened."""
    made = []

    def kept(*args):
        made.append(stand_in(*args))
        return made[-1]

    monkeypatch.setattr(entry, "_channel_b", kept)
    settings = config(base, tmp_path / "run", stage2={"b_ratio": 0.25})
    found = check_stage2(settings)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
    assert {f"loss/{name}" for name in A_TERMS} < found["channel_A"].keys()
    assert {f"loss/{name}" for name in B_TERMS} < found["channel_B"].keys()
    assert found["channel_B"]["rollout/right"] >= 0
    assert [channel.closed for channel in made] == [True]
    train_stage2(settings)
    first = rows(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(found["channel_A"]["loss"], rel=1e-6)
    assert [channel.closed for channel in made] == [True, True]
    alone = check_stage2(config(base, tmp_path / "none", stage2={"b_ratio": 0}))
    assert "channel_B" not in alone and len(made) == 2


@pytest.mark.slow
def test_engines_are_closed_after_an_error(base, monkeypatch, tmp_path):
    """Rollouts that fail end the training with their own error, and the channel is closed."""
    made = []

    class Failing(StandIn):
        def prepare(self, batches, step, **rest):
            raise ConfigError("no rollouts today")

    def failing(parts, notify, trainer):
        made.append(Failing(parts, trainer, notify))
        return made[-1]

    monkeypatch.setattr(entry, "_channel_b", failing)
    with pytest.raises(ConfigError, match="no rollouts today"):
        train_stage2(config(base, tmp_path / "run", stage2={"b_ratio": 0.5}))
    assert made[0].closed
    assert [row["channel"] for row in rows(tmp_path / "run")] == ["A"]


@pytest.mark.slow
def test_stage_2_goes_on_from_what_stage_1_left(base, stood_in, tmp_path):
    """A stage-1 checkpoint folder is a model for stage 2; its weights are where it starts."""
    done = train_stage1(stage1_config(base, tmp_path / "one", data={"limit": 4}))
    settings = config(
        done.checkpoint, tmp_path / "two", data={"limit": 4}, trainer={"learning_rate": 0.0}
    )
    again = train_stage2(settings)
    ours, theirs = weights(done.checkpoint), weights(again.checkpoint)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_each_stage_refuses_the_others_configuration(base, tmp_path):
    """train_stage1 and train_stage2 take only what says that it is theirs."""
    with pytest.raises(ConfigError, match="stage 1, not 2"):
        train_stage2(stage1_config(base, tmp_path / "run"))
    with pytest.raises(ConfigError, match="stage 2, not 1"):
        train_stage1(config(base, tmp_path / "run"))
    weights_of_a = dict.fromkeys(("soft_ce", "w1", "smooth_l1", "ciou"), 0.0)
    nothing = {"coord_gate_weight": 0.0, "channel_a": {"text_ce": 0.0, "weights": weights_of_a}}
    with pytest.raises(ConfigError, match="channel_a: no term has a weight"):
        train_stage2(config(base, tmp_path / "run", stage2=nothing))


def test_channel_a_is_refused_weights_in_pieces():
    """FSDP with channel A is a fault of the configuration, told before training."""
    require_whole_weights(SimpleNamespace(is_fsdp_enabled=False))
    with pytest.raises(ConfigError, match=r"channel A does not run under FSDP.*b_ratio: 1"):
        require_whole_weights(SimpleNamespace(is_fsdp_enabled=True))
