"""`RolloutEvalCallback`: the evaluator in the loop of anyone's Hugging Face Trainer.

Every so many steps the model decodes freely, into an ordinary run directory `eval/step_000300`;
its numbers are logged as `eval_rollout/<metric>`, and training goes on as if nothing had been.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from coordeval.errors import ConfigError, CoordevalError
from coordeval.parsers.dialects import DEFAULT_DIALECT
from coordeval.training.rollout_eval.best import metric_direction
from coordeval.training.rollout_eval.hf_best import offered_metric, offered_value
from coordeval.training.rollout_eval.plan import EvalData
from coordeval.training.rollout_eval.progress import say
from coordeval.training.rollout_eval.ranks import agree, all_ranks
from coordeval.training.rollout_eval.runs import PREFIX
from coordeval.training.rollout_eval.session import EvalSession, open_session
from coordeval.training.rollout_eval.trainer_log import calling_trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.data.prompts import Prompt
    from coordeval.records import Sample
    from coordeval.training.config import EvalEngine


class RolloutEvalCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Evaluates by free decoding at the start, every `every` steps (0: never) and at the end.

    `data` is a dataset file, or samples. `processor` is a processor, a `Reader` or a checkpoint
    folder; parts may be given instead; by default the trainer's own is taken. `image_root` to
    `decode` mean what they mean for `coordeval rollout`; `decode` holds its further options by
    name (`max_new_tokens`, `constrain`, `loop_guard`, `telemetry`, ...). `limit` None takes all
    samples. `out` is where `eval/`, `monitor_dumps/` and `best/` go, by default the trainer's
    `output_dir`. `engine`: `hf` decodes with the model in training, `vllm` with an engine beside
    it, `process` in another process. `best_metric` is a key of the catalogue: the best weights are
    kept in `best/`. `stopped` says that training is being ended from outside: no evaluation is
    started any more, and one under way ends after its batch, to go on when training does; then
    `on_stopped(state, control)` is called, on all processes, for the training to end at this step.
    `notify` hears of warnings, on the main process.

    What is misconfigured raises CoordevalError before the first step; what fails in an evaluation
    costs that evaluation alone.
    """

    def __init__(
        self,
        data: Path | str | Sequence[Sample],
        *,
        processor: Any = None,
        tokenizer: Any = None,
        image_processor: Any = None,
        every: int = 0,
        at_start: bool = False,
        at_end: bool = True,
        out: Path | str | None = None,
        image_root: Path | str | None = None,
        limit: int | None = 64,
        prompt: Prompt | str | None = None,
        pixels: str | None = None,
        dialect: str = DEFAULT_DIALECT,
        field_order: str | None = None,
        frame: str | None = None,
        batch_size: int = 8,
        decode: Mapping[str, Any] | None = None,
        engine: EvalEngine = "hf",
        best_metric: str | None = None,
        dump_samples: int = 10,
        trainer: Any = None,
        stopped: Callable[[], bool] = lambda: False,
        on_stopped: Callable[[Any, Any], None] = lambda *_: None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        if engine not in {"hf", "vllm", "process"}:
            raise ConfigError(f"rollout_eval.engine: {engine!r} is not one of hf, vllm, process")
        if not isinstance(every, int) or every < 0 or dump_samples < 0:
            raise ConfigError(
                "rollout_eval.every and dump_samples must be whole numbers, and not negative"
            )
        if field_order not in {None, "desc_first", "geometry_first"}:
            raise ConfigError(
                f"rollout_eval.field_order: {field_order!r} is not one of desc_first, "
                "geometry_first"
            )
        if best_metric is not None:
            best_metric = best_metric.removeprefix(PREFIX)
            metric_direction(best_metric)
        self.data = EvalData(
            data=data,
            image_root=image_root,
            limit=limit,
            prompt=prompt,
            pixels=pixels,
            dialect=dialect,
            field_order=field_order,
            frame=frame,
            batch_size=batch_size,
            decode=dict(decode or {}),
        )
        self.every, self.at_start, self.at_end = every, at_start, at_end
        self.engine, self.best_metric, self.dump_samples = engine, best_metric, dump_samples
        self.parts = {
            "processor": processor,
            "tokenizer": tokenizer,
            "image_processor": image_processor,
        }
        self.out = None if out is None else Path(out)
        self.trainer = trainer
        self.stopped, self.on_stopped = stopped, on_stopped
        self._notify = notify or (lambda text: say(f"warning: {text}"))
        self._session: EvalSession | None = None
        self._last_step = -1

    # ---- what the trainer calls ----

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Check everything, and evaluate the untrained model where that was asked for."""
        if self.trainer is None:
            self.trainer = calling_trainer(self)
        self._last_step = -1
        ranks = all_ranks()
        session, error = None, None
        try:
            session = open_session(self, args, state, ranks, self._quiet(ranks.rank), given)
        except (CoordevalError, OSError, RuntimeError, ValueError) as found:
            error = found
        agree(ranks, error)
        self._session = session
        if session is not None:
            session.take_up(state)
        if self._owed(state, control):
            self._evaluate(state, control, given)
        self._last_step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Evaluate where this step is one of them, before the trainer saves its checkpoint."""
        del args
        self._take_finished(state, control)
        step = state.global_step
        if (self.every and step % self.every == 0) or self._is_end(state, control):
            self._evaluate(state, control, given)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Evaluate where training was stopped early, after its last step."""
        del args
        if self._is_end(state, control):
            self._evaluate(state, control, given)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Offer the metric that the trainer chooses its own best checkpoint by, if it is ours."""
        key = offered_metric(args)
        metrics = given.pop("metrics", None)
        if key is None or metrics is None or self._session is None:
            return
        self._evaluate(state, control, given)
        evaluated = self._session.last
        current = evaluated if evaluated is not None and evaluated.step == self._last_step else None
        metrics |= offered_value(key, current, higher=bool(args.greater_is_better))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Evaluate at the end where no step was the last one; wait for another process."""
        reloaded = args.load_best_model_at_end and state.best_model_checkpoint is not None
        if self.at_end and not reloaded:
            self._evaluate(state, control, given)
        if self._session is not None:
            self._session.close(state, control, wait=not self.stopped())
            self._session = None

    # ---- ----

    def _owed(self, state: Any, control: Any) -> bool:
        """True for the start, and for a step that a resumed training has left without its numbers.

        An evaluation that was interrupted lies behind the checkpoint of its own step.
        """
        step = state.global_step
        if step == 0:
            return self.at_start
        if self._session is not None and self._session.taken_up == step:
            return False
        logged = any(
            row.get("step") == step and f"{PREFIX}seconds" in row for row in state.log_history
        )
        due = bool(self.every) and step % self.every == 0
        return not logged and (due or self._is_end(state, control))

    def _is_end(self, state: Any, control: Any) -> bool:
        ended = state.global_step >= state.max_steps > 0 or control.should_training_stop
        return bool(self.at_end and ended)

    def _evaluate(self, state: Any, control: Any, given: Mapping[str, Any]) -> None:
        """Evaluate this step, unless it was already, or training is being stopped."""
        session = self._session
        if session is None or state.global_step == self._last_step:
            return
        if any(session.ranks.gather(self.stopped())):  # signals reach processes one by one
            self.on_stopped(state, control)
            return
        self._last_step = state.global_step
        session.evaluate(given["model"], state, control)
        if session.live.was_stopped:
            self.on_stopped(state, control)

    def _take_finished(self, state: Any, control: Any) -> None:
        if self._session is not None:
            self._session.take_finished(state, control)

    def _quiet(self, rank: int) -> Callable[[str], None]:
        return self._notify if rank == 0 else _silent


def _silent(text: str) -> None:
    del text


__all__ = ["RolloutEvalCallback"]
