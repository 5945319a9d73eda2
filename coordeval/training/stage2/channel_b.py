"""Channel B: samples are rolled out, and the model is taught from what it wrote.

Before the first forward pass of a step all samples of its window are rolled out at once, by each
process its own. Every micro-batch is then made anew of the same prompts and pixels, with targets
in the place of the true answers, and trained on by the ordinary teacher-forced pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError, CoordevalError, RunIncomplete
from coordeval.training.config import BoxLossConfig
from coordeval.training.loop.teacher_forced import TeacherForced
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.rollout_eval.ranks import agree
from coordeval.training.stage2.prompts import check_prompt, prompts_of
from coordeval.training.stage2.target_examples import rows_of, target_example

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from coordeval.records import Rollout, Sample
    from coordeval.training.data.collator import EncodedExample, TrainCollator
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.stage2.config import Stage2Config
    from coordeval.training.stage2.prompts import BatchPrompt
    from coordeval.training.stage2.rollout_dumps import RolloutDumps
    from coordeval.training.stage2.rollouts import TrainingRollouts
    from coordeval.training.stage2.target_maker import TargetMaker
    from coordeval.training.stage2.telemetry import RolloutTelemetry

AT = "B/"
_IDLE = {
    "text_ce": "text_ce has none where all tokens weigh 0",
    "unlikelihood": "unlikelihood is of target: clean alone",
}
GIVE_UP_AFTER = 3
"""So many steps in a row whose rollouts all failed end the training."""


def channel_b_objective(
    config: Stage2Config,
    coord_ids_K: Tensor | Sequence[int],
    *,
    end_ids: Sequence[int] = (),
    chunk: int | None = None,
) -> Stage1Objective:
    """The objective of channel B; ConfigError where none of its terms has a weight.

    Nor has text without a token that weighs anything, or unlikelihood with prefix targets, which
    leave out no repeat: with nothing else there would be nothing to learn.
    """
    channel = config.channel_b
    weights = {
        "text_ce": channel.text_ce,
        **channel.weights.by_name(),
        "gate": config.coord_gate_weight,
        "unlikelihood": channel.unlikelihood,
    }
    idle = set() if channel.tokens.teaches_any else {"text_ce"}
    if channel.target == "prefix":
        idle.add("unlikelihood")
    if not any(weight for name, weight in weights.items() if name not in idle):
        named = "".join(f"; {_IDLE[name]}" for name in sorted(idle) if weights[name])
        raise ConfigError(f"stage2.channel_b: no term has a weight{named}")
    return Stage1Objective(
        weights,
        coord_ids_K,
        sigma=config.sigma,
        truncate=config.truncate,
        temperature=config.temperature,
        box=BoxLossConfig(decode=channel.decode),
        end_ids=end_ids,
        chunk=chunk,
    )


class ChannelB(TeacherForced):
    """A `Channel` over targets of rollouts, its terms named `B/...`; see `open_channel_b`.

    `live` gives the model to roll out with (None: `model`): a trainer may wrap it once training
    starts. `samples` are those of the training data by id. `collator` is the data's; with `packed`
    it packs rows, of at most `max_length` tokens. `telemetry` and `dumps` hear of every rollout;
    `notify` of those that failed.
    """

    def __init__(
        self,
        model: Any,
        objective: Stage1Objective,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
        coord_ids_K: Tensor | None,
        rollouts: TrainingRollouts,
        targets: TargetMaker,
        samples: Mapping[str, Sample],
        collator: TrainCollator,
        image_token_id: int,
        packed: bool,
        max_length: int,
        ranks: Ranks,
        telemetry: RolloutTelemetry,
        live: Callable[[], Any] | None = None,
        dumps: RolloutDumps | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(model, objective, autocast=autocast, coord_ids_K=coord_ids_K, at=AT)
        self._live: Callable[[], Any] = live or (lambda: model)
        self._rollouts, self._targets = rollouts, targets
        self._samples, self._collator, self._image_token_id = samples, collator, image_token_id
        self._packed, self._max_length, self._ranks = packed, max_length, ranks
        self._telemetry, self._dumps, self._notify = telemetry, dumps, notify
        self._failed_steps = 0

    def prepare(
        self, batches: Sequence[Mapping[str, Any]], step: int, *, dry: bool = False
    ) -> list[dict[str, Any]]:
        """As many batches as there are, of the rollouts of their samples; on every process.

        Each sample has one row for each view (or its part of a packed row). Batches of fillers
        stay as they are, and samples that could not be read stay in `skipped`. Weights, gradients
        and random states are as before. `dry`: nothing is written. Raises on all processes what
        goes wrong on one: ConfigError for a rollout of another prompt, RunIncomplete after
        `GIVE_UP_AFTER` steps without any rollout that worked.
        """
        prompts = [prompts_of(batch) for batch in batches]
        made: list[dict[str, Any]] = []
        error: CoordevalError | None = None
        try:
            found = self._rolled(prompts, step, dry=dry)
            made = [
                self._batch(batch, of_batch, found)
                for batch, of_batch in zip(batches, prompts, strict=True)
            ]
        except CoordevalError as failure:
            error = failure
        agree(self._ranks, error)
        return made

    def telemetry(self) -> dict[str, float | None]:
        """`rollout/*` of the rollouts made last, over all processes; asked on every process."""
        return self._telemetry.values(self._ranks)

    def close(self) -> None:
        """Stop engines that make rollouts; safe to call twice."""
        self._rollouts.close()

    def _rolled(
        self, prompts: Sequence[Sequence[BatchPrompt]], step: int, *, dry: bool
    ) -> dict[str, list[Rollout]]:
        """The views of every sample of the window, checked and told."""
        asked = {prompt.sample_id: prompt for of_batch in prompts for prompt in of_batch}
        samples = [self._samples[name] for name in asked]
        views = self._rollouts.roll(self._live(), samples, step=step)
        for prompt, of_sample in zip(asked.values(), views, strict=True):
            check_prompt(prompt, of_sample, self._rollouts.prompt_ids, self._image_token_id)
        flat = [rollout for of_sample in views for rollout in of_sample]
        self._telemetry.begin(flat)
        self._targets.begin()
        self._note_failures(flat, step)
        if self._dumps is not None and not dry:
            self._dumps.add(flat, step)
        return dict(zip(asked, views, strict=True))

    def _batch(
        self,
        batch: Mapping[str, Any],
        prompts: Sequence[BatchPrompt],
        found: Mapping[str, list[Rollout]],
    ) -> dict[str, Any]:
        if not prompts:
            return dict(batch)
        examples = [
            self._example(prompt, rollout)
            for prompt in prompts
            for rollout in found[prompt.sample_id]
        ]
        rows = rows_of(examples, packed=self._packed, capacity=self._max_length)
        return self._collator(rows) | {"skipped": batch.get("skipped", [])}

    def _example(self, prompt: BatchPrompt, rollout: Rollout) -> EncodedExample:
        target, counts = self._targets.make(
            rollout, self._samples[prompt.sample_id], room=self._max_length - len(prompt.input_ids)
        )
        self._telemetry.count(counts)
        return target_example(prompt, target)

    def _note_failures(self, rollouts: Sequence[Rollout], step: int) -> None:
        """Say what failed; stop where nothing works any more."""
        failed = [rollout for rollout in rollouts if rollout.failed]
        if failed:
            self._notify(
                f"step {step + 1}: {len(failed)} of {len(rollouts)} training rollouts failed "
                f"(first {failed[0].id!r}: {failed[0].error})"
            )
        if rollouts:
            self._failed_steps = self._failed_steps + 1 if len(failed) == len(rollouts) else 0
        if self._failed_steps >= GIVE_UP_AFTER:
            raise RunIncomplete(
                f"all training rollouts of {self._failed_steps} rollout steps in a row failed, the "
                f"last with: {failed[0].error}"
            )


__all__ = ["AT", "GIVE_UP_AFTER", "ChannelB", "channel_b_objective"]
