"""`Stage1Trainer`: transformers' Trainer with the objective's own normalisation and log.

Every optimizer step runs one `Channel` (`coordeval.training.loop.channel`); in stage 1 there is
only one, the teacher-forced pass. What differs from the library: each term is divided by its own
count over the accumulation window and all processes; the evaluation loss is one sum over one count;
every optimizer step is logged in full; a step that is not finite ends the training before it is
taken. Everything else (loop, schedule, devices, checkpoints) is the library's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer

from coordeval.training.data.batches import RankBatches, batch_loader, to_device
from coordeval.training.data.epochs import EpochCallback
from coordeval.training.loop.checkpoints import save_guarded
from coordeval.training.loop.dry_run import dry_run
from coordeval.training.loop.evaluation import evaluate_channel
from coordeval.training.loop.gradmon import GradientMonitor
from coordeval.training.loop.nonfinite import Divergence, is_finite, stop
from coordeval.training.loop.step_rows import learning_rates_now, step_row
from coordeval.training.loop.teacher_forced import TeacherForced
from coordeval.training.loop.window import Window, add_counts, count_batch, count_names, reduced
from coordeval.training.tuning.joint_optimizer import build_optimizer
from coordeval.training.tuning.param_groups import parameter_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.utils.data import DataLoader

    from coordeval.training.config import MonitorConfig, TuneConfig
    from coordeval.training.data.skips import SkipLedger
    from coordeval.training.loop.channel import Channel
    from coordeval.training.loop.stopping import StopRequest
    from coordeval.training.loop.train_log import TrainLog
    from coordeval.training.losses.objective import Stage1Objective
    from coordeval.training.tuning.coord_only import CoordRows


class Stage1Trainer(Trainer):  # type: ignore[misc, unused-ignore]
    """Trains a Qwen-VL-like model on the stage-1 objective.

    `dataset` and `eval_dataset` are `TrainDataset`s or anything like them: items for their
    `collator()`. `coord_ids_K` None: no coordinate diagnostics. `rows` are coordinate rows with
    a learning rate of their own (`tune.coord_rows_lr`); with `rows_only` nothing else learns.
    """

    loss_is_scaled_for_ga = True
    optimizer: Any
    control: Any

    def __init__(
        self,
        *,
        objective: Stage1Objective,
        train_log: TrainLog,
        folder: Path,
        tune: TuneConfig,
        monitor: MonitorConfig,
        coord_ids_K: Tensor | None,
        stop_request: StopRequest,
        ledger: SkipLedger,
        notify: Callable[[str], None],
        rows: Sequence[CoordRows] = (),
        rows_only: bool = False,
        sigma_at: Callable[[int], float] | None = None,
        **rest: Any,
    ) -> None:
        """`sigma_at` is the objective's sigma by step, where it changes; `rest` the library's."""
        super().__init__(**rest)
        self._log, self._folder, self._tune, self._monitor = train_log, folder, tune, monitor
        self._stop_request, self._ledger, self._notify = stop_request, ledger, notify
        self.rows, self.rows_only = list(rows), rows_only
        self._gradient_monitor = self._make_monitor()
        self.teacher_forced = TeacherForced(
            self.model,
            objective,
            autocast=self.accelerator.autocast,
            coord_ids_K=coord_ids_K,
        )
        self._sigma_at = sigma_at
        self._batches: RankBatches | None = None
        self.add_callback(EpochCallback(self))
        self._window: Window | None = None
        self._step_row: dict[str, Any] = {}
        self._step_started = time.monotonic()

    def _make_monitor(self) -> GradientMonitor | None:
        if not self._monitor.gradients_every:
            return None
        return GradientMonitor(
            self.model,
            every=self._monitor.gradients_every,
            max_numel=self._monitor.gradients_max_numel,
            autocast=self.accelerator.autocast,
        )

    # ---- data ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process; see `coordeval.training.data.batches`."""
        args = self.args
        self._batches = self._rank_batches(
            self.train_dataset,
            args.per_device_train_batch_size,
            shuffle=args.train_sampling_strategy == "random",
            drop_last=args.dataloader_drop_last,
        )
        return self._loader(self.train_dataset, self._batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """The evaluation data's share of this process, in order."""
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        batches = self._rank_batches(chosen, self.args.per_device_eval_batch_size, shuffle=False)
        return self._loader(chosen, batches)

    def set_epoch(self, epoch: int) -> None:
        """Let samples and their order be those of an epoch; our callback asks for it."""
        if self._batches is not None:
            self._batches.set_epoch(epoch)
        self.train_dataset.set_epoch(epoch)

    def _rank_batches(
        self, dataset: Any, batch_size: int, *, shuffle: bool, drop_last: bool = False
    ) -> RankBatches:
        args = self.args
        return RankBatches(
            num_samples=len(dataset),
            batch_size=batch_size,
            rank=args.process_index,
            world=args.world_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=shuffle,
            drop_last=drop_last,
        )

    def _loader(self, dataset: Any, batches: RankBatches) -> DataLoader[Any]:
        args = self.args
        return batch_loader(
            dataset,
            dataset.collator(),
            batches,
            workers=args.dataloader_num_workers,
            prefetch=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )

    # ---- one optimizer step ----

    def channel_of(self, step: int) -> tuple[Channel, str | None]:
        """What optimizer step `step` (from 0) runs, and its name where there are several."""
        del step
        return self.teacher_forced, None

    def prepared(
        self,
        batches: list[Any],
        window: Window,  # noqa: ARG002 - for channels that need it
    ) -> list[Any]:
        """The batches that a window trains on, as many as were read."""
        return batches

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """A window's batches; its denominators are counted and reduced over all processes."""
        finished = 0 < self.state.max_steps <= self.state.global_step
        if finished or self.control.should_training_stop:
            # Resumed at the last step, or stopped in an evaluation before the first: the library
            # would take one step more.
            self._stop_request.over_at = self.state.global_step
            self.control.should_training_stop = True
            return [], None
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self._note_skipped(batch)
        channel, label = self.channel_of(self.state.global_step)
        window = Window({}, channel, label=label, facts=self._annealed(self.state.global_step))
        batches = self.prepared(batches, window)
        names = count_names(channel)
        own = add_counts(names, [count_batch(channel, batch) for batch in batches])
        own["stop"] = int(self._stop_request.wanted)
        summed = reduced([own[name] for name in names], self.accelerator)
        window.counts = dict(zip(names, summed.tolist(), strict=True))
        self._stop_request.agreed = window.counts.pop("stop") > 0
        if self._diagnoses_next_step():
            window.diagnosed = {at: [] for at in channel.diagnosed_at}
        self._window = window
        self._step_started = time.monotonic()
        if self._gradient_monitor is not None:
            self._gradient_monitor.begin(self.state.global_step + 1)
        return batches, None

    def _annealed(self, step: int) -> dict[str, float]:
        """Let the objective have the sigma of optimizer step `step`; what the log says of it."""
        if self._sigma_at is None:
            return {}
        sigma = self._sigma_at(step)
        self.teacher_forced.objective.set_sigma(sigma)
        return {"sigma": sigma}

    def _note_skipped(self, batch: Mapping[str, Any]) -> None:
        """Say what of a batch could not be read; too much of it ends the training."""
        for sample, reason in self._ledger.add(batch):
            self._notify(f"sample {sample!r} left out: {reason}")

    def _diagnoses_next_step(self) -> bool:
        every = self._monitor.diagnostics_every
        return bool(every and (self.state.global_step + 1) % every == 0)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return to_device(inputs, self.args.device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """One micro-batch's share of the window's loss, times the number of processes.

        The factor undoes the mean that distributed training takes of gradients.
        """
        del num_items_in_batch
        window = self._window
        assert window is not None
        monitor = self._gradient_monitor
        computed = window.channel(
            model,
            inputs,
            window.divisors,
            diagnosed=window.diagnosed,
            inspect=monitor.inspect if monitor is not None and monitor.active else None,
        )
        window.add(inputs["sample_ids"], computed)
        world = self.accelerator.num_processes
        loss = computed.loss * world if world > 1 else computed.loss
        return (loss, {}) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated: the library's guess counts neither images nor answers."""
        del inputs
        return 0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The library's, kept for the check before the step and for the log."""
        value = super()._get_grad_norm(model, grad_norm=grad_norm)
        assert self._window is not None
        self._window.grad_norm = None if value is None else float(value)
        self._finish_window(self._window)
        return value

    def _finish_window(self, window: Window) -> None:
        """Sum the window over all processes, and stop where it is not finite."""
        finished = window.finish(self.accelerator)
        step = self.state.global_step + 1
        if not is_finite(finished.loss, window.grad_norm):
            batches = list(zip(window.ids, finished.shares, strict=True))
            divergence = Divergence(
                step=step,
                loss=finished.loss,
                grad_norm=window.grad_norm,
                sums=finished.sums,
                denominators=window.denominators,
                batches=self._gathered(batches),
                channel=window.label,
            )
            raise stop(divergence, self._folder, writes=self.is_world_process_zero())
        self._step_row = step_row(
            window,
            finished,
            accumulation=len(window.ids),
            seconds=time.monotonic() - self._step_started,
        )
        self._step_row |= learning_rates_now(self.optimizer)
        if self._gradient_monitor is not None and self._gradient_monitor.active:
            self._step_row |= self._gradient_monitor.finish(self.accelerator)

    def _gathered(self, items: list[Any]) -> list[Any]:
        if self.accelerator.num_processes == 1:
            return items
        from accelerate.utils import gather_object  # type: ignore[import-untyped, unused-ignore]

        gathered: list[Any] = gather_object(items)
        return gathered

    # ---- optimizer, log, evaluation, checkpoints ----

    def create_optimizer(self, model: Any = None) -> Any:
        """Groups by part of the model, Muon and coordinate rows; see `param_groups`."""
        if self.optimizer is None:
            chosen = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, chosen)
            groups = []
            if not self.rows_only:
                groups = parameter_groups(
                    chosen.named_parameters(),
                    self._tune,
                    learning_rate=self.args.learning_rate,
                    weight_decay=self.args.weight_decay,
                )
            for row in self.rows:
                row.follow_table()
            rate = self._tune.coord_rows_lr
            self.optimizer = build_optimizer(
                groups,
                lambda plain: kind(plain, **options),
                self.rows,
                rows_lr=self.args.learning_rate if rate is None else rate,
            )
        return self.optimizer

    def log(self, logs: Mapping[str, Any], start_time: float | None = None) -> None:
        """Complete a step's values and write them to `train_log.jsonl`; evaluations as they are."""
        row = dict(logs)
        if "loss" in logs and "grad_norm" in logs:
            row |= self._step_row
        elif "train_runtime" in logs:  # the library's summary at the end: not a step
            return
        numbers = {k: v for k, v in row.items() if v is not None and not isinstance(v, str)}
        super().log(numbers, start_time)
        # The state is written with every checkpoint; the full rows are in the log.
        if "loss" in logs and "grad_norm" in logs and self.state.log_history:
            keep = {*logs, "epoch", "step"}
            last = self.state.log_history[-1]
            self.state.log_history[-1] = {k: v for k, v in last.items() if k in keep}
        lead = {"step": self.state.global_step, "epoch": self.state.epoch}
        self._log.append(lead | {k: v for k, v in row.items() if k != "learning_rate"})

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float | None]:
        """The objective over the whole evaluation set; see `coordeval.training.loop.evaluation`."""
        del ignore_keys
        # That of the last step, also right after a resume.
        self._annealed(max(self.state.global_step - 1, 0))
        values = evaluate_channel(
            self.model_wrapped if self.is_fsdp_enabled else self.model,
            self.teacher_forced,
            self.get_eval_dataloader(eval_dataset),
            accelerator=self.accelerator,
            on_batch=self._note_skipped,
        )
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in values.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def save_now(self) -> None:
        """Write a checkpoint of the present step, whatever the save strategy."""
        self._save_checkpoint(self.model_wrapped, None)

    def dry_run(self) -> dict[str, Any]:
        """What one batch gives, without a step; see `coordeval.training.loop.dry_run`."""
        return dry_run(self)

    def close(self) -> None:
        """Let go of what the training held besides the model; here nothing."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The library's; one that cannot be written whole is taken away again."""
        save_guarded(
            lambda: super(Stage1Trainer, self)._save_checkpoint(model, trial),
            self._folder / f"checkpoint-{self.state.global_step}",
            removes=self.args.should_save,
        )


__all__ = ["Stage1Trainer"]
