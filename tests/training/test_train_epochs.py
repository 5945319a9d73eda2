"""Epochs in the library's own trainer: every one has its own order, also after a resume."""

import pytest
import torch
from odd_scenes import odd_dataset, tiny_reader
from transformers import Trainer, TrainerCallback, TrainingArguments

from coordeval.training.config import DataConfig
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.epochs import EpochCallback


class _Listener(torch.nn.Module):
    """A model that learns nothing and remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.heard = []

    def forward(self, labels, sample_ids, **_):
        """Remember ids and labels; a loss of 0 with a gradient."""
        rows = [tuple(row[row >= 0].tolist()) for row in labels]
        self.heard += zip(sample_ids, rows, strict=True)
        return {"loss": (self.weight * 0).sum()}


class _StopAt(TrainerCallback):
    """Ends a training after so many steps."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        """Ask for a checkpoint and an end."""
        control.should_training_stop = control.should_save = state.global_step == self.step


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The reader of a small random checkpoint."""
    return tiny_reader(tmp_path_factory.mktemp("reader"))


def _train(config, reader, out, *, stop_at=None, resume=None, workers=0):
    trained = TrainDataset(config, reader, seed=2)
    model = _Listener()
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
    )
    callbacks = [EpochCallback(trained)]
    if stop_at is not None:
        callbacks.append(_StopAt(stop_at))
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=trained,
        data_collator=trained.collator(),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.heard


def test_epochs_differ_and_a_resume_goes_on_with_the_right_one(reader, tmp_path):
    """A run interrupted in the middle of its second epoch sees what an uninterrupted one sees."""
    path = odd_dataset(tmp_path / "data")
    config = DataConfig(train=str(path), order="random")
    whole = _train(config, reader, tmp_path / "whole")
    assert len(whole) == 24
    epochs = [dict(whole[start : start + 8]) for start in (0, 8, 16)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0].keys() == epochs[1].keys() == epochs[2].keys()
    for stop_at in (3, 4):
        out = tmp_path / f"cut{stop_at}"
        first = _train(config, reader, out, stop_at=stop_at)
        rest = _train(config, reader, out, resume=str(out / f"checkpoint-{stop_at}"))
        assert first == whole[: 4 * stop_at]
        assert rest == whole[4 * stop_at :]
    assert _train(config, reader, tmp_path / "workers", workers=2) == whole
