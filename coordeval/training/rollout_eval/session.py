"""The evaluations of one training, from its first step to its last: run, log, keep the best."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError, CoordevalError
from coordeval.training.rollout_eval.best import BestCheckpoint
from coordeval.training.rollout_eval.hf_best import check_offered
from coordeval.training.rollout_eval.live_checkpoint import save_best, save_live
from coordeval.training.rollout_eval.live_evaluator import LiveEvaluator, report
from coordeval.training.rollout_eval.live_model import decoding_model, undisturbed
from coordeval.training.rollout_eval.plan import build_plan
from coordeval.training.rollout_eval.process import ProcessEvaluator
from coordeval.training.rollout_eval.reader import find_reader
from coordeval.training.rollout_eval.runs import Evaluated, score_folder
from coordeval.training.rollout_eval.sharded import check_gatherable, sharding_of
from coordeval.training.rollout_eval.trainer_log import log_row
from coordeval.training.rollout_eval.vllm_engine import VllmBeside, check_vllm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordeval.engines.hf_loading import Reader
    from coordeval.training.rollout_eval.callback import RolloutEvalCallback
    from coordeval.training.rollout_eval.plan import EvalPlan
    from coordeval.training.rollout_eval.process import Handed
    from coordeval.training.rollout_eval.ranks import Ranks


def open_session(
    asked: RolloutEvalCallback,
    args: Any,
    state: Any,
    ranks: Ranks,
    notify: Callable[[str], None],
    given: Mapping[str, Any],
) -> EvalSession:
    """Check all that can be wrong before the first step; raises CoordevalError for it."""
    model, trainer = given["model"], asked.trainer
    folder = Path(args.output_dir) if asked.out is None else asked.out
    inner = decoding_model(model)
    reader = find_reader(**asked.parts, model=inner, fallback=given.get("processing_class"))
    sharding, engine = sharding_of(model), asked.engine
    if engine == "vllm":
        check_vllm(world=ranks.world, sharding=sharding)
    if sharding != "none":
        check_gatherable(model, trainer)
        if engine == "hf":
            engine = "process"
            notify(
                f"rollout evaluation: the weights are sharded ({sharding}): they are gathered into "
                "a checkpoint, which another process evaluates"
            )
    check_offered(args, at_once=engine != "process")
    options = asked.data.options(folder, engine=engine)
    plan = build_plan(asked.data, reader, options, notify)
    live = LiveEvaluator(
        plan,
        reader,
        folder,
        ranks,
        vllm=VllmBeside(options, plan, reader, folder, notify=notify) if engine == "vllm" else None,
        dump_samples=asked.dump_samples,
        stopped=asked.stopped,
        notify=notify,
    )
    live.hf_engine(inner).close()  # refuses what this prompt, tokenizer or dialect cannot have
    process = ProcessEvaluator(asked.data, folder) if engine == "process" else None
    best = None
    if ranks.rank == 0:
        try:
            (folder / "eval").mkdir(parents=True, exist_ok=True)
            if asked.best_metric is not None:
                fresh = state.global_step == 0
                best = BestCheckpoint(folder, asked.best_metric, fresh=fresh, notify=notify)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return EvalSession(
        plan=plan,
        reader=reader,
        folder=folder,
        ranks=ranks,
        trainer=trainer,
        live=live,
        process=process,
        best=best,
        keeps_best=asked.best_metric is not None,
        dump_samples=asked.dump_samples,
        notify=notify,
    )


@dataclass(kw_only=True)
class EvalSession:
    """Evaluates when it is told to, on all processes; `last` is what came of it last."""

    plan: EvalPlan
    reader: Reader
    folder: Path
    ranks: Ranks
    trainer: Any
    live: LiveEvaluator
    process: ProcessEvaluator | None
    best: BestCheckpoint | None
    keeps_best: bool
    dump_samples: int
    notify: Callable[[str], None]
    last: Evaluated | None = None
    taken_up: int | None = None

    def evaluate(self, model: Any, state: Any, control: Any) -> None:
        """Evaluate now, or hand the weights of now to another process."""
        if self.process is not None:
            self._hand_over(model, state, control)
            return
        evaluated = self.live.evaluate(model, step=state.global_step, epoch=state.epoch)
        if evaluated is None:
            return
        self._record(evaluated, state, control)
        if self.keeps_best and self.ranks.broadcast(self._improves(evaluated)):
            self._keep(evaluated, lambda folder: self._save_best(model, folder))

    def _record(self, evaluated: Evaluated, state: Any, control: Any) -> None:
        self.last = evaluated
        log_row(
            self.trainer,
            state,
            control,
            evaluated.logged,
            step=evaluated.step,
            epoch=evaluated.epoch,
        )

    def _improves(self, evaluated: Evaluated) -> bool:
        return self.best is not None and self.best.improves(evaluated)

    def _save_best(self, model: Any, folder: Path) -> None:
        main = self.ranks.rank == 0
        with undisturbed(model):
            save_best(model, self.reader, folder, trainer=self.trainer, main=main)

    def _keep(self, evaluated: Evaluated, fill: Callable[[Path], None]) -> None:
        """Fill the folder of the next best checkpoint, and put it in the place of the last."""
        incoming = self.folder / ".best.new"
        try:
            fill(incoming)
            if self.best is not None:
                self.best.accept(evaluated)
        except Exception as error:  # noqa: BLE001 - whatever writers of weights raise: training goes on
            self.notify(
                f"the best checkpoint of step {evaluated.step} could not be kept: "
                f"{type(error).__name__}: {error}"
            )
            if self.best is not None:
                shutil.rmtree(incoming, ignore_errors=True)

    # ---- another process ----

    def take_up(self, state: Any) -> None:
        """Go on with what an interrupted training left to another process; on all processes.

        Its step is `taken_up`. What cannot be read of it is told, and left.
        """
        taken = None
        if self.process is not None and self.ranks.rank == 0:
            try:
                taken = self.process.take_up(state.global_step)
            except (OSError, ValueError) as error:
                self.notify(f"an evaluation left under way could not be taken up: {error}")
        self.taken_up = self.ranks.broadcast(taken)

    def _hand_over(self, model: Any, state: Any, control: Any) -> None:
        assert self.process is not None
        self.take_finished(state, control, wait=True)
        main = self.ranks.rank == 0
        folder = self.process.checkpoint_of(state.global_step)
        try:
            with undisturbed(model):
                save_live(model, self.reader, folder, trainer=self.trainer, main=main)
            if main:
                self.process.start(state.global_step, state.epoch)
        except Exception as error:  # noqa: BLE001 - whatever writers of weights raise: training goes on
            self.notify(
                f"the rollout evaluation at step {state.global_step} could not be started: "
                f"{type(error).__name__}: {error}"
            )
            if main:
                shutil.rmtree(folder, ignore_errors=True)

    def take_finished(self, state: Any, control: Any, *, wait: bool = False) -> None:
        """Log an evaluation that another process has finished, under its own step."""
        if self.process is None or self.ranks.rank > 0:
            return
        handed = self.process.finished(wait=wait)
        if handed is None:
            return
        try:
            self._read(handed, state, control)
        except (CoordevalError, OSError) as error:
            self.notify(f"the rollout evaluation at step {handed.step} failed: {error}")
        finally:
            shutil.rmtree(handed.checkpoint, ignore_errors=True)

    def _read(self, handed: Handed, state: Any, control: Any) -> None:
        failure = handed.failure()
        if failure is not None:
            self.notify(f"the rollout evaluation at step {handed.step} failed: {failure}")
            return
        result = score_folder(handed.out)
        evaluated = Evaluated(
            step=handed.step,
            epoch=handed.epoch,
            path=handed.out,
            metrics=result.metrics,
            seconds=time.perf_counter() - handed.started,
        )
        report(result, evaluated, self.folder, self.dump_samples, self.plan, self.notify)
        self._record(evaluated, state, control)
        if self._improves(evaluated):
            self._keep(evaluated, lambda folder: _take_over(handed.checkpoint, folder))

    def close(self, state: Any, control: Any, *, wait: bool) -> None:
        """Take in what is still under way (or end it, without `wait`), and stop engines."""
        if wait:
            self.take_finished(state, control, wait=True)
        elif self.process is not None:
            self.process.stop()
        self.live.close()


def _take_over(checkpoint: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint.rename(folder)


__all__ = ["EvalSession", "open_session"]
