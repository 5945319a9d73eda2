"""Interrupted and resumed trainings, half-written checkpoints, folders of other configurations."""

import os
import shutil
import signal

import pytest
import torch
from stage1_setup import SCENES, config, rows, tiny_base, weights
from transformers import Trainer, TrainerCallback

from coordeval.errors import CheckpointError, RunLockedError, RunMismatchError
from coordeval.training.config import DataConfig, TuneConfig
from coordeval.training.loop.checkpoints import (
    CheckpointNotSaved,
    clear_later,
    last_complete,
    why_incomplete,
)
from coordeval.training.loop.run_folder import check_folder, locked
from coordeval.training.stage1 import train_stage1

DROPPED = {"seconds", "tokens_per_second", "samples_per_second"}
TUNES = {
    "adamw": TuneConfig(),
    "muon_and_rows": TuneConfig(muon=True, coord_rows_lr=0.01, vision_lr=1e-4),
    "lora": TuneConfig(what="lora", lora_dropout=0.2),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


class SignalAt(TrainerCallback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def _config(base, out, tune="adamw", **trainer):
    return config(
        base,
        out,
        data={"order": "random", "limit": 7},
        trainer={
            "num_train_epochs": 3,
            "save_strategy": "steps",
            "save_steps": 2,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 2,
            "weight_decay": 0.1,
        }
        | trainer,
        tune=TUNES[tune],
    )


def _logged(out):
    return [{k: v for k, v in row.items() if k not in DROPPED} for row in rows(out)]


def _final(done):
    if (done.checkpoint / "model.safetensors").exists():
        return weights(done.checkpoint)
    from safetensors.torch import load_file

    return load_file(done.checkpoint / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("tune", sorted(TUNES))
def test_terminated_and_resumed_equals_uninterrupted(tune, base, tmp_path):
    """A SIGTERM in the middle of epoch 1, then --resume auto: the same log and weights, bit for bit."""
    whole = train_stage1(_config(base, tmp_path / "whole", tune))
    assert whole.exit_code == 0 and whole.step == whole.max_steps == 12
    cut = train_stage1(
        _config(base, tmp_path / "cut", tune), callbacks=[SignalAt(5)], handle_signals=True
    )
    assert (cut.step, cut.exit_code) == (5, 143)
    again = train_stage1(_config(base, tmp_path / "cut", tune))
    assert again.step == 12
    assert _logged(tmp_path / "whole") == _logged(tmp_path / "cut")
    ours, theirs = _final(whole), _final(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.slow
def test_ctrl_c_saves_the_step_that_was_under_way(base, tmp_path):
    """SIGINT finishes its step, leaves a whole checkpoint and says 130."""
    done = train_stage1(
        _config(base, tmp_path / "run"),
        callbacks=[SignalAt(3, signal.SIGINT)],
        handle_signals=True,
    )
    assert (done.step, done.exit_code) == (3, 130)
    assert why_incomplete(tmp_path / "run" / "checkpoint-3") is None
    assert signal.getsignal(signal.SIGINT) is not None


@pytest.mark.slow
def test_half_written_checkpoints_are_passed_over(base, tmp_path):
    """A checkpoint with a cut or missing file is ignored, named, and written anew."""
    out = tmp_path / "run"
    whole = train_stage1(_config(base, tmp_path / "whole"))
    train_stage1(_config(base, out), callbacks=[SignalAt(9)], handle_signals=True)
    for name, harm in (
        ("checkpoint-9", lambda path: (path / "trainer_state.json").unlink()),
        ("checkpoint-8", lambda path: _cut(path / "model.safetensors")),
        ("checkpoint-6", lambda path: _cut(path / "optimizer.pt")),
    ):
        harm(out / name)
        assert why_incomplete(out / name) is not None
    said = []
    again = train_stage1(_config(base, out), notify=said.append)
    assert any("checkpoint-4 at step 4" in line for line in said)
    assert sum("passed over" in line for line in said) == 3
    assert _logged(tmp_path / "whole") == _logged(out)
    ours, theirs = _final(whole), _final(again)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert why_incomplete(out / "checkpoint-8") is None


@pytest.mark.parametrize(
    "layout",
    [
        ["optimizer.bin", "model.safetensors"],
        ["optimizer_0/__0_0.distcp", "pytorch_model_fsdp_0/__0_0.distcp"],
        ["global_step4/mp_rank_00_model_states.pt", "latest"],
    ],
    ids=["fsdp", "fsdp-sharded", "deepspeed"],
)
def test_sharded_checkpoints_are_not_taken_for_half_written(layout, tmp_path):
    """They lack optimizer.pt by design: they are gone on with, and never removed."""
    folder = tmp_path / "checkpoint-4"
    for name in layout:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"shard")
    for rank in range(2):
        torch.save({}, folder / f"rng_state_{rank}.pth")
    assert why_incomplete(folder, processes=2) is not None  # its state comes last
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    assert why_incomplete(folder, processes=2) is None
    assert last_complete(tmp_path, processes=2) == folder
    assert clear_later(tmp_path, 4) == []
    assert folder.is_dir()


def _cut(path):
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_whole(base, tmp_path, monkeypatch):
    """Writing fails half-way: a clear error, no leftovers, and the resumed run is exact."""
    out = tmp_path / "run"
    whole = train_stage1(_config(base, tmp_path / "whole"))
    real = Trainer._save_optimizer_and_scheduler

    def fails(self, folder):
        if self.state.global_step == 6:
            raise OSError(28, "No space left on device")
        real(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", fails)
    with pytest.raises(CheckpointNotSaved, match=r"checkpoint-6.*No space left.*--resume auto"):
        train_stage1(_config(base, out))
    assert sorted(path.name for path in out.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-4",
    ]
    assert last_complete(out) == out / "checkpoint-4"
    monkeypatch.undo()
    again = train_stage1(_config(base, out))
    assert _logged(tmp_path / "whole") == _logged(out)
    ours, theirs = _final(whole), _final(again)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.slow
def test_folders_and_resume_paths_are_checked(base, tmp_path):
    """Another configuration's folder, --resume never on a used one, and a bad path are refused."""
    out = tmp_path / "run"
    short = {"num_train_epochs": 1}
    done = train_stage1(_config(base, out, **short))
    with pytest.raises(RunMismatchError, match=r"trainer.num_train_epochs: 1 there, 2 here"):
        train_stage1(_config(base, out, num_train_epochs=2))
    with pytest.raises(RunMismatchError, match="--resume auto"):
        train_stage1(_config(base, out, **short), resume="never")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        train_stage1(_config(base, out, **short), resume=tmp_path / "nothing")
    before = (out / "train_log.jsonl").read_bytes()
    again = train_stage1(_config(base, out, **short))  # finished already
    assert again.step == done.step
    assert (out / "train_log.jsonl").read_bytes() == before
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    check_folder(moved, _config(base, moved, **short))  # output_dir is no part of the identity
    assert isinstance(_config(base, out).data, DataConfig)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [{"eval_strategy": "steps", "eval_steps": 1}, {}])
def test_an_evaluation_that_an_interruption_left_out_is_made_up(strategy, base, tmp_path):
    """Interrupted at a step that was to be evaluated: the resumed log has the same evaluations."""

    def settings(out):
        return config(
            base,
            out,
            data={"eval": str(SCENES), "eval_limit": 3, "limit": 4},
            trainer={"num_train_epochs": 3} | strategy,
        )

    def evaluations(out):
        return [
            {k: v for k, v in row.items() if k != "eval_seconds"}
            for row in rows(out, evaluations=True)
        ]

    train_stage1(settings(tmp_path / "whole"))
    train_stage1(settings(tmp_path / "cut"), callbacks=[SignalAt(4)], handle_signals=True)
    assert all(row["step"] != 4 for row in evaluations(tmp_path / "cut"))
    train_stage1(settings(tmp_path / "cut"))
    assert evaluations(tmp_path / "cut") == evaluations(tmp_path / "whole")
    train_stage1(settings(tmp_path / "cut"))  # nothing is owed any more
    assert evaluations(tmp_path / "cut") == evaluations(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_a_training_that_is_over_takes_no_further_step(strategy, base, tmp_path):
    """`max_steps` inside an epoch: started again, nothing is trained, logged or saved."""

    def settings(out):
        return config(
            base,
            out,
            data={"eval": str(SCENES), "eval_limit": 3, "limit": 7},
            trainer={"max_steps": 6, "eval_strategy": strategy, "save_steps": 3}
            | {"save_strategy": "steps", "eval_steps": 3},
        )

    def state(out):
        names = sorted(path.name for path in out.glob("checkpoint-*"))
        return names, (out / "train_log.jsonl").read_bytes()

    out = tmp_path / "run"
    assert train_stage1(settings(out)).step == 6
    before = state(out)
    again = train_stage1(settings(out))
    assert (again.step, again.max_steps) == (6, 6)
    assert again.checkpoint == out / "checkpoint-6"
    assert state(out) == before
    cut = tmp_path / "cut"
    train_stage1(settings(cut), callbacks=[SignalAt(6)], handle_signals=True)
    assert train_stage1(settings(cut)).step == 6
    assert _logged(cut) == _logged(out)
    steps = [[row["step"] for row in rows(at, evaluations=True)] for at in (cut, out)]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_going_back_to_an_earlier_checkpoint_keeps_the_later_ones_aside(base, tmp_path):
    """--resume PATH takes the same steps again; whole checkpoints beyond it are moved, not lost."""
    out = tmp_path / "run"
    done = train_stage1(_config(base, out))
    before, logged = _final(done), _logged(out)
    said = []
    again = train_stage1(_config(base, out), resume=out / "checkpoint-4", notify=said.append)
    assert _logged(out) == logged
    assert all(torch.equal(value, before[name]) for name, value in _final(again).items())
    aside = sorted(path.name for path in (out / "superseded").iterdir())
    assert aside == ["checkpoint-10", "checkpoint-12", "checkpoint-6", "checkpoint-8"]
    assert any("8 lines beyond step 4 dropped" in line for line in said)
    with locked(out, holds=True), pytest.raises(RunLockedError, match="another training"):
        train_stage1(_config(base, out))


@pytest.mark.slow
def test_every_epoch_has_its_own_object_order(base, tmp_path):
    """At learning rate 0 the loss of `order: random` differs from epoch to epoch, `sorted` not."""
    for order, different in (("random", 3), ("sorted", 1)):
        settings = config(
            base,
            tmp_path / order,
            data={"order": order, "limit": 6},
            trainer={
                "learning_rate": 0.0,
                "num_train_epochs": 3,
                "per_device_train_batch_size": 6,
                "train_sampling_strategy": "sequential",
            },
        )
        train_stage1(settings)
        assert len({row["loss"] for row in rows(tmp_path / order)}) == different
