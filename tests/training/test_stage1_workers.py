"""A data-loading process that is killed ends the training in one line, with its exit code."""

import multiprocessing
import os
import signal

import pytest
import torch
from stage1_setup import config, rows, tiny_base
from transformers import TrainerCallback

from coordeval.training.loop.checkpoints import CheckpointNotSaved, save_guarded, why_incomplete
from coordeval.training.loop.lost_worker import LoaderWorkerLost, lost_worker, named_as_such
from coordeval.training.stage1 import train_stage1

KILLED = "DataLoader worker (pid 12) is killed by signal: Killed. It is possible that ..."


class KillLoader(TrainerCallback):
    """Kills the data-loading processes after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_loader_ends_the_training_with_3(tmp_path):
    """One line that says how to go on; the checkpoints are whole, and the training goes on."""
    base, out = tiny_base(tmp_path / "base"), tmp_path / "run"
    settings = config(
        base,
        out,
        data={"limit": 24},
        trainer={
            "dataloader_num_workers": 1,
            "dataloader_prefetch_factor": 1,
            "save_strategy": "steps",
            "save_steps": 1,
        },
    )
    with pytest.raises(LoaderWorkerLost, match=r"data-loading.*--resume auto") as stopped:
        train_stage1(settings, callbacks=[KillLoader(2)])
    assert stopped.value.exit_code == 3
    assert "\n" not in str(stopped.value)
    for path in out.glob("checkpoint-*"):
        assert why_incomplete(path) is None, path
    assert (out / "checkpoint-1").is_dir()
    done = train_stage1(settings)
    assert done.step == 12
    assert [row["step"] for row in rows(out)] == list(range(1, 13))


@pytest.mark.parametrize(
    "text", ["DataLoader worker (pid(s) 3, 4) exited unexpectedly", KILLED, f"first\n{KILLED}"]
)
def test_what_loaders_report_is_known(text):
    """Both reports of a lost process are one line of ours."""
    with pytest.raises(LoaderWorkerLost), named_as_such():
        raise RuntimeError(text)


def test_a_pipe_that_breaks_while_a_batch_comes_through_it_is_known():
    """A batch that cannot be taken over is a lost process; the same error elsewhere is not."""

    class Dying(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.zeros(3)

    batches = iter(torch.utils.data.DataLoader(Dying(), num_workers=1, prefetch_factor=1))
    batches._data_queue.get = _reset
    with pytest.raises(LoaderWorkerLost, match=r"ConnectionResetError: .*reset"), named_as_such():
        next(batches)
    with pytest.raises(ConnectionResetError), named_as_such():
        _reset()
    pinned = OSError("Caught ConnectionResetError in pin memory thread for device 0.")
    assert lost_worker(pinned) is not None
    assert lost_worker(OSError("Caught OSError in DataLoader worker process 0.")) is None


def _reset(**_):
    raise ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError(KILLED)])
def test_other_errors_stay_what_they_are(error):
    """What is no lost process goes through unchanged."""
    assert lost_worker(error) is None
    with pytest.raises(type(error)) as found, named_as_such():
        raise error
    assert found.value is error


def test_a_loader_lost_in_the_middle_of_a_checkpoint_is_named(tmp_path):
    """The unfinished folder goes away; a full disk is still a full disk."""
    for error, kind in (
        (RuntimeError(KILLED), LoaderWorkerLost),
        (OSError(28, "full"), CheckpointNotSaved),
    ):
        folder = tmp_path / "checkpoint-1"
        folder.mkdir()

        def fail(error=error):
            raise error

        with pytest.raises(kind):
            save_guarded(fail, folder, removes=True)
        assert not folder.exists()
