"""A training from its configuration to its checkpoints: what all stages have in common.

A stage says by `make` what its trainer is; data, checkpoint, folder, resume, signals, progress and
the evaluator in the loop are the same.
"""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from coordeval.engines.checkpoint import checkpoint_hash
from coordeval.errors import EXIT_OK, ConfigError, RunMismatchError
from coordeval.training.assembly import assemble
from coordeval.training.loop.arguments import training_arguments
from coordeval.training.loop.checkpoints import (
    all_checkpoints,
    clear_later,
    last_complete,
    require_complete,
    step_of,
)
from coordeval.training.loop.full_disk import told_of_a_full_disk
from coordeval.training.loop.lost_worker import named_as_such
from coordeval.training.loop.nonfinite import TrainingDiverged
from coordeval.training.loop.progress import ProgressCallback
from coordeval.training.loop.run_folder import check_folder, locked, write_folder
from coordeval.training.loop.stopping import (
    OwedEvaluation,
    StopCallback,
    StopRequest,
    stop_on_signals,
)
from coordeval.training.loop.train_log import TrainLog
from coordeval.training.rollout_eval.callback import RolloutEvalCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.training.assembly import Parts
    from coordeval.training.config import TrainConfig
    from coordeval.training.loop.trainer import Stage1Trainer

Resume = Literal["auto", "never"] | Path


class MakeTrainer(Protocol):
    """Makes a stage's trainer of assembled parts, as `coordeval.training.assembly.make_trainer`."""

    def __call__(
        self,
        parts: Parts,
        request: StopRequest,
        callbacks: list[Any],
        notify: Callable[[str], None],
    ) -> Stage1Trainer:
        """The trainer, ready to train."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a training ended: at `step` of `max_steps`, its last checkpoint, and a signal if any.

    `exit_code` is what a command ends with: 0, or that of the signal which stopped it.
    """

    checkpoint: Path
    step: int
    max_steps: int
    exit_code: int = EXIT_OK
    is_main_process: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "checkpoint": str(self.checkpoint),
            "step": self.step,
            "max_steps": self.max_steps,
            "interrupted": self.exit_code != EXIT_OK,
        }


def run_training(
    config: TrainConfig,
    make: MakeTrainer,
    *,
    resume: Resume = "auto",
    notify: Callable[[str], None] = lambda _: None,
    callbacks: Sequence[Any] = (),
    handle_signals: bool = False,
) -> Trained:
    """Train as configured, or go on with what `output_dir` holds.

    `resume`: `auto` goes on from the last whole checkpoint of `output_dir`, `never` refuses a
    folder that has one, a path names one. An interrupted and resumed training takes the steps of an
    uninterrupted one, bit for bit on the CPU. `callbacks` are added to our own. `notify` hears of
    what people should know. Raises RunMismatchError for the folder of another configuration,
    RunLockedError for one that is being trained in, TrainingDiverged for a loss that is not
    finite, LoaderWorkerLost for a killed data worker, CheckpointNotSaved and LogNotWritten for a
    full disk, and the errors of data, checkpoint and configuration before anything is trained.
    """
    folder = Path(config.output_dir)
    check_folder(folder, config)
    args = training_arguments(config)
    say = notify if args.process_index == 0 else _silent
    with locked(folder, holds=args.process_index == 0):
        start = _resume_from(config, resume, args.world_size, say)
        parts = assemble(config, args, say)
        request = StopRequest()
        progress = ProgressCallback()
        evaluator = rollout_callback(parts, request, say)
        trainer = make(parts, request, [progress, *callbacks], notify)
        try:
            _add_callbacks(trainer, evaluator, request, folder)
            _open_folder(parts, trainer, start, say)
            with (
                stop_on_signals(request) if handle_signals else nullcontext(),
                told_of_a_full_disk(folder),
                named_as_such(),
            ):
                trainer.train(resume_from_checkpoint=None if start is None else str(start))
                return _finish(trainer, folder, request)
        finally:
            trainer.close()
            progress.close()


def _add_callbacks(
    trainer: Stage1Trainer,
    evaluator: RolloutEvalCallback | None,
    request: StopRequest,
    folder: Path,
) -> None:
    trainer.add_callback(OwedEvaluation(trainer, folder))
    # Before the evaluator, which starts nothing any more once a stop is agreed on.
    stop = StopCallback(request, alone=trainer.args.world_size == 1)
    trainer.add_callback(stop)
    if evaluator is not None:
        evaluator.trainer, evaluator.on_stopped = trainer, stop.stop_here
        trainer.add_callback(evaluator)


def check_training(
    config: TrainConfig, make: MakeTrainer, *, notify: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Everything short of training: data, lengths, tokenizer, model, and the loss of one batch.

    Writes nothing. Returns counts of the data, parameters that learn, steps, and what the
    trainer's `dry_run` finds of the first batch on the device. Raises TrainingDiverged where its
    loss is not finite.
    """
    folder = Path(config.output_dir)
    check_folder(folder, config)
    args = training_arguments(config)
    parts = assemble(config, args, notify)
    request = StopRequest()
    rollout_callback(parts, request, notify)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        trainer = make(parts, request, [], notify)
    finally:
        with suppress(OSError):  # somebody else's by now
            for path in missing:  # the library makes them
                path.rmdir()
    try:
        found = trainer.dry_run()
    finally:
        trainer.close()
    for part in (found, *(value for value in found.values() if isinstance(value, dict))):
        _require_finite(part.get("loss"), found.get("sample_ids", ()))
    return found | {
        "samples": len(parts.train.samples),
        "data": parts.train.report.to_json(),
        "eval_data": None if parts.eval is None else parts.eval.report.to_json(),
    }


def _require_finite(loss: float | None, sample_ids: Sequence[str]) -> None:
    if loss is None or math.isfinite(loss):
        return
    ids = ", ".join(map(repr, sample_ids[:5]))
    raise TrainingDiverged(
        f"the first batch's loss is {loss}; samples {ids}: look at them and at the checkpoint's "
        "weights"
    )


def rollout_callback(
    parts: Parts, request: StopRequest, notify: Callable[[str], None]
) -> RolloutEvalCallback | None:
    """The evaluator in the loop as `rollout_eval` asks for it; None where it asks for nothing.

    Prompt, dialect, frame and pixel limits are those of the training data. Raises ConfigError
    where it is asked for without any data.
    """
    wanted, data = parts.config.rollout_eval, parts.config.data
    source = wanted.data or data.eval
    if source is None:
        if wanted.every or wanted.at_start or wanted.best_metric:
            raise ConfigError("rollout_eval needs data: set rollout_eval.data or data.eval")
        return None
    if not (wanted.every or wanted.at_start or wanted.at_end):
        return None
    root = wanted.image_root
    if root is None:
        root = data.image_root
        if wanted.data is None and data.eval_image_root is not None:
            root = data.eval_image_root
    return RolloutEvalCallback(
        source,
        processor=parts.reader,
        every=wanted.every,
        at_start=wanted.at_start,
        at_end=wanted.at_end,
        out=parts.folder,
        image_root=root,
        limit=wanted.limit,
        prompt=parts.train.prompt,
        pixels=data.pixels,
        dialect=data.dialect,
        field_order=data.field_order,
        frame=data.frame,
        batch_size=wanted.batch_size,
        decode=wanted.decode,
        engine=wanted.engine,
        best_metric=wanted.best_metric,
        dump_samples=wanted.dump_samples,
        stopped=lambda: request.wanted or request.agreed,
        notify=notify,
    )


def _resume_from(
    config: TrainConfig, resume: Resume, processes: int, notify: Callable[[str], None]
) -> Path | None:
    folder = Path(config.output_dir)
    if isinstance(resume, Path):
        check_folder(resume.absolute().parent, config)
        return require_complete(resume, processes=processes)
    if resume == "never":
        found = all_checkpoints(folder)
        if found:
            raise RunMismatchError(
                f"{folder}: holds {found[-1].name} already; choose another output_dir, or go on "
                "with --resume auto"
            )
        return None
    return last_complete(folder, processes=processes, notify=notify)


def _open_folder(
    parts: Parts, trainer: Stage1Trainer, start: Path | None, notify: Callable[[str], None]
) -> None:
    """Write what the run is, and take back what lies beyond the step it goes on from."""
    if parts.args.process_index == 0:
        step = 0 if start is None else step_of(start) or 0
        write_folder(parts.folder, parts.config, _facts(parts))
        dropped = TrainLog(parts.folder, writes=True).rewind(step if start is not None else -1)
        cleared = clear_later(parts.folder, step)
        if start is not None:
            notify(f"going on from {start} at step {step}")
        if dropped:
            notify(f"train_log.jsonl: {dropped} lines beyond step {step} dropped")
        for line in cleared:
            notify(line)
    trainer.accelerator.wait_for_everyone()


def _facts(parts: Parts) -> dict[str, Any]:
    data = {"train": parts.train, "eval": parts.eval}
    return {
        "model": {
            "path": str(parts.checkpoint.path),
            "name": parts.checkpoint.name,
            "hash": checkpoint_hash(parts.checkpoint.path),
        },
        "data": {
            name: {
                "path": str(dataset.dataset.path),
                "sha256": dataset.dataset.sha256,
                "samples": len(dataset.samples),
                "report": dataset.report.to_json(),
            }
            for name, dataset in data.items()
            if dataset is not None
        },
        "prompt": parts.train.prompt.to_json(),
        "stage": parts.config.stage,
        # In stage 2 these are the evaluation's; its channels' own stand in config.yaml.
        "weights": parts.objective.weights,
        "processes": parts.args.world_size,
        "samples_per_step": parts.args.per_device_train_batch_size
        * parts.args.gradient_accumulation_steps
        * parts.args.world_size,
    }


def _finish(trainer: Stage1Trainer, folder: Path, request: StopRequest) -> Trained:
    """See to it that the last step has a checkpoint."""
    state = trainer.state
    last = folder / f"checkpoint-{state.global_step}"
    if not last.is_dir():
        trainer.save_now()
    trainer.accelerator.wait_for_everyone()
    return Trained(
        checkpoint=last,
        step=state.global_step,
        max_steps=state.max_steps,
        exit_code=request.exit_code if request.saved_at is not None else EXIT_OK,
        is_main_process=trainer.is_world_process_zero(),
    )


def _silent(_: str) -> None:
    """Other processes than the main one say nothing."""


__all__ = [
    "MakeTrainer",
    "Resume",
    "Trained",
    "check_training",
    "rollout_callback",
    "run_training",
]
