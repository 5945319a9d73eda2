"""One evaluation of the model in training, by this process and its siblings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from coordeval.engines.runner import RolloutsStopped
from coordeval.training.rollout_eval.live_engine import live_hf_engine
from coordeval.training.rollout_eval.live_model import undisturbed
from coordeval.training.rollout_eval.monitor_dumps import write_dump
from coordeval.training.rollout_eval.progress import EvalProgress
from coordeval.training.rollout_eval.ranks import BrokenEngine, SplitEngine, follow
from coordeval.training.rollout_eval.runs import (
    Evaluated,
    live_identity,
    roll_out,
    score_folder,
    step_name,
)
from coordeval.training.rollout_eval.weights_hash import weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.engines.base import Engine
    from coordeval.engines.hf import HfEngine
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.progress import Progress
    from coordeval.metrics.result import ScoreResult
    from coordeval.training.rollout_eval.plan import EvalPlan
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.rollout_eval.vllm_engine import VllmBeside


class EvaluationStopped(RolloutsStopped):
    """Training is to stop, and does not wait for an evaluation; what is done of it is kept."""


class LiveEvaluator:
    """Evaluates a model where it is. `evaluate` is called on all processes.

    Each decodes every n-th sample of a round; process 0 writes, scores and tells the others. With
    `vllm` process 0 is alone and hands its weights to that engine instead.
    """

    def __init__(
        self,
        plan: EvalPlan,
        reader: Reader,
        folder: Path,
        ranks: Ranks,
        *,
        vllm: VllmBeside | None = None,
        dump_samples: int = 10,
        stopped: Callable[[], bool] = lambda: False,
        notify: Callable[[str], None],
    ) -> None:
        self._stopped = stopped
        self._plan, self._reader, self._folder = plan, reader, folder
        self._ranks, self._vllm = ranks, vllm
        self._dump_samples, self._notify = dump_samples, notify
        self._followed = False
        self.was_stopped = False

    def hf_engine(self, model: Any) -> HfEngine:
        """The engine around a model; raises what prompt and decode settings are refused with."""
        return live_hf_engine(model, self._plan, self._reader, notify=self._notify)

    def evaluate(self, model: Any, *, step: int, epoch: float | None) -> Evaluated | None:
        """Roll out and score, with the model left as it was; None where that failed.

        What failed is told through `notify`; only a request to stop (KeyboardInterrupt) comes out.
        `was_stopped` says afterwards, on all processes, whether it ended because training does.
        """
        if self._ranks.rank > 0:
            self._follow(model)
            told = self._ranks.broadcast(None)
        else:
            told = self._ranks.broadcast(self._lead(model, step, epoch))
        evaluated, failure, self.was_stopped = told
        if failure is not None:
            self._notify(f"the rollout evaluation at step {step} {failure}")
        return evaluated  # type: ignore[no-any-return]

    def _lead(
        self, model: Any, step: int, epoch: float | None
    ) -> tuple[Evaluated | None, str | None, bool]:
        self._followed = self._ranks.world > 1
        try:
            with undisturbed(model) as inner:
                return self._evaluate(model, inner, step, epoch), None, False
        except Exception as error:  # noqa: BLE001 - the fence of an evaluation: training goes on
            if self._followed:  # the others wait for requests that will not come
                self._ranks.broadcast(None)
            if isinstance(error, EvaluationStopped):
                return None, f"was stopped: {error}", True
            return None, f"failed: {type(error).__name__}: {error}", False

    def _follow(self, model: Any) -> None:
        following = False
        try:
            with undisturbed(model) as inner:
                engine = self.hf_engine(inner)
                following = True
                follow(engine, self._ranks)
        except Exception as error:
            if following:  # the processes themselves have lost one another
                raise
            follow(BrokenEngine(f"{type(error).__name__}: {error}"), self._ranks)

    def _evaluate(self, model: Any, inner: Any, step: int, epoch: float | None) -> Evaluated:
        started = time.perf_counter()
        out = self._folder / "eval" / step_name(step)
        engine = self._open(model, inner)
        try:
            identity = live_identity(
                self._plan, engine, folder=self._folder, step=step, weights=weights_hash(model)
            )
            roll_out(
                engine,
                self._plan,
                out=out,
                identity=identity,
                on_progress=self._watcher(step),
                notify=self._notify,
            )
        finally:
            if self._vllm is None:
                engine.close()
        result = score_folder(out)
        evaluated = Evaluated(
            step=step,
            epoch=epoch,
            path=out,
            metrics=result.metrics,
            seconds=time.perf_counter() - started,
        )
        report(result, evaluated, self._folder, self._dump_samples, self._plan, self._notify)
        return evaluated

    def _watcher(self, step: int) -> Callable[[Progress], None]:
        """Tells where the rollouts stand; raises EvaluationStopped where training is to stop."""
        shown = EvalProgress(step_name(step))

        def watch(progress: Progress) -> None:
            if self._stopped():
                raise EvaluationStopped("training is being stopped; it goes on with the training")
            shown.show(progress)

        return watch

    def _open(self, model: Any, inner: Any) -> Engine:
        """The engine to ask: vLLM's, this process's own, or the one that deals out to all."""
        if self._vllm is not None:
            engine: Engine = self._vllm.engine(model)
            return engine
        own = self.hf_engine(inner)
        if self._ranks.world == 1:
            return own
        self._followed = False  # from here on, closing the engine lets the others go
        return SplitEngine(own, self._ranks, batch_size=self._plan.batch_size, notify=self._notify)

    def close(self) -> None:
        """Stop a vLLM engine that was started."""
        if self._vllm is not None:
            self._vllm.close()


def report(
    result: ScoreResult,
    evaluated: Evaluated,
    folder: Path,
    dump_samples: int,
    plan: EvalPlan,
    notify: Callable[[str], None],
) -> None:
    """Tell of error lines, and write the dump; a dump that cannot be written costs itself only."""
    failed = [entry for entry in result.columns.images if entry.failed]
    if failed:
        notify(
            f"step {evaluated.step}: {len(failed)} of {len(result.columns.images)} rollouts are "
            f"error lines (first: {failed[0].id}: {failed[0].error})"
        )
    if not dump_samples:
        return
    path = folder / "monitor_dumps" / f"{step_name(evaluated.step)}.json"
    try:
        write_dump(
            result,
            evaluated,
            path,
            count=dump_samples,
            max_new_tokens=plan.decode.max_new_tokens,
        )
    except OSError as error:
        notify(f"{path}: cannot be written: {error.strerror or error}")


__all__ = ["LiveEvaluator", "report"]
