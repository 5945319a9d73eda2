"""Rollouts of the present weights, in memory, for the samples of one optimizer step."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from coordeval.engines.base import Request, request_seed
from coordeval.engines.hf_inputs import render_prompt
from coordeval.errors import ConfigError
from coordeval.training.stage2.rollout_plan import WHERE, build_rollout_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Rollout, Sample
    from coordeval.training.config import DataConfig
    from coordeval.training.data.dataset import TrainDataset
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.stage2.config import RolloutConfig
    from coordeval.training.stage2.rollout_engines import LiveEngine
    from coordeval.training.stage2.rollout_plan import RolloutPlan


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's rollouts: 63 bits that depend on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}\0{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class TrainingRollouts:
    """Rolls samples out with the weights that the model has at the moment; see `open_rollouts`.

    `prompt_ids` are those of every request, with one image token where the image stands.
    """

    def __init__(self, plan: RolloutPlan, engine: LiveEngine, prompt_ids: Sequence[int]) -> None:
        self._plan, self._engine = plan, engine
        self.prompt_ids = tuple(prompt_ids)

    @property
    def decode(self) -> DecodeSettings:
        """The decode settings that hold; its samples are views."""
        return self._engine.decode

    def roll(self, model: Any, samples: Sequence[Sample], *, step: int) -> list[list[Rollout]]:
        """All views of every sample, in order: `[sample][view]`; called on every process.

        A process rolls out its own samples, maybe none. Each rollout has a seed of its own, by
        (seed, step, sample id, view) alone. A sample that stands twice is rolled out once. What
        fails is an error line in its place. The model, gradients and random states stay as they
        were.
        """
        requests = self._requests(samples, step)
        found = {(r.id, r.sample_index): r for r in self._engine.answer(model, requests)}
        missing = [request.key for request in requests if request.key not in found]
        if missing:
            raise RuntimeError(f"the engine left {len(missing)} rollouts out (first {missing[0]})")
        views = range(self.decode.samples)
        return [[found[sample.id, view] for view in views] for sample in samples]

    def _requests(self, samples: Sequence[Sample], step: int) -> list[Request]:
        seed = step_seed(self._plan.seed, step)
        unique = {sample.id: sample for sample in samples}
        return [
            Request(sample=sample, sample_index=view, seed=request_seed(seed, name, view))
            for name, sample in unique.items()
            for view in range(self.decode.samples)
        ]

    def close(self) -> None:
        """Stop engines that were started; safe to call twice."""
        self._engine.close()


def open_rollouts(
    config: RolloutConfig,
    data: DataConfig,
    dataset: TrainDataset,
    reader: Reader,
    model: Any,
    *,
    seed: int,
    folder: Path,
    ranks: Ranks,
    sharded: bool = False,
    trainer: Any = None,
    notify: Callable[[str], None] = lambda _: None,
) -> TrainingRollouts:
    """What `config` asks for, checked before the first step; called on every process.

    `folder` is the run's: engines may keep weights in it while they run. `sharded`: no process
    has all weights, and `trainer` gathers them. Raises ConfigError and CheckpointError for
    options, prompts and engines that cannot work, MissingExtraError without vLLM.
    """
    plan = build_rollout_plan(
        config, data, dataset, reader, seed=seed, notify=notify if ranks.rank == 0 else _silent
    )
    prompt_ids = render_prompt(reader.tokenizer, plan.prompt, reader.image_token_id)
    if sharded and config.engine != "server":
        raise ConfigError(
            f"{WHERE}.engine {config.engine}: the weights are sharded, and no process has them "
            "whole to decode with; use engine: server, or train without FSDP and ZeRO-3"
        )
    engine: LiveEngine
    if config.engine == "hf":
        from coordeval.training.stage2.rollouts_hf import HfRollouts

        engine = HfRollouts(plan, reader, model, notify=notify)
    elif config.engine == "vllm":
        from coordeval.training.stage2.rollouts_vllm import VllmRollouts

        engine = VllmRollouts(plan, reader, folder, processes=ranks.world, notify=notify)
    else:
        from coordeval.training.stage2.rollouts_server import ServerRollouts

        engine = ServerRollouts(plan, reader, config, folder, ranks, trainer=trainer, notify=notify)
    return TrainingRollouts(plan, engine, prompt_ids)


def _silent(_: str) -> None:
    """What all processes would say is said by the first."""


__all__ = ["TrainingRollouts", "open_rollouts", "step_seed"]
