"""Telling a dataset which epoch begins, whatever the data loader does.

The library tells the dataset in some set-ups only: not with several processes, and not after a
resume in the middle of an epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from coordeval.training.data.dataset import TrainDataset


class EpochCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Sets the dataset's epoch before its first batch is asked for, also on a resumed run."""

    def __init__(self, dataset: TrainDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Take the epoch from the trainer's state, which counts finished batches as fractions."""
        del args, control, kwargs
        self._dataset.set_epoch(int((state.epoch or 0.0) + 1e-6))


__all__ = ["EpochCallback"]
