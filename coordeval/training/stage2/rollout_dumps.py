"""`monitor_dumps/rollout_step_*.json`: some training rollouts of a step in full, failures first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.metrics.score import score_run
from coordeval.runs import Run
from coordeval.training.rollout_eval.monitor_dumps import write_dump
from coordeval.training.rollout_eval.runs import Evaluated, step_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from coordeval.engines.base import DecodeSettings
    from coordeval.records import Rollout
    from coordeval.training.stage2.rollout_sums import Reading

FOLDER = "monitor_dumps"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRun(Run):
    """Rollouts in memory in the place of a run's files."""

    held: tuple[Rollout, ...]

    def rollouts(self) -> Iterator[Rollout]:
        """The rollouts that are held, in their order."""
        yield from self.held


class RolloutDumps:
    """Writes the first views of one process's rollouts every `every` rollout steps, from the first.

    `number_of` counts the rollout steps before a step. A dump has the form of an evaluation's
    (`coordeval.training.rollout_eval.monitor_dumps`). A file that cannot be written is told through
    `notify`, and training goes on.
    """

    def __init__(
        self,
        folder: Path,
        reading: Reading,
        decode: DecodeSettings,
        *,
        every: int,
        number_of: Callable[[int], int],
        count: int,
        notify: Callable[[str], None],
    ) -> None:
        self._folder, self._reading, self._decode = folder / FOLDER, reading, decode
        self._every, self._number_of = every, number_of
        self._count, self._notify = count, notify

    def add(self, rollouts: Sequence[Rollout], step: int) -> None:
        """Take in the rollouts of a rollout step (numbered from 0); every n-th is written."""
        due = self._number_of(step) % self._every == 0
        first = tuple(rollout for rollout in rollouts if rollout.sample_index == 0)
        if not due or not first:
            return
        run = MemoryRun(
            path=self._folder, rollouts_path=self._folder, meta=self._meta(), held=first
        )
        name = f"rollout_{step_name(step + 1)}"
        result = score_run(run, categories=self._reading.categories)
        evaluated = Evaluated(
            step=step + 1, epoch=None, path=self._folder / name, metrics=result.metrics, seconds=0.0
        )
        try:
            write_dump(
                result,
                evaluated,
                self._folder / f"{name}.json",
                count=self._count,
                max_new_tokens=self._decode.max_new_tokens,
            )
        except OSError as error:
            self._notify(f"{self._folder}: a dump was not written: {error.strerror or error}")

    def _meta(self) -> dict[str, Any]:
        reading = self._reading
        meta: dict[str, Any] = {
            "dialect": reading.dialect.to_json(),
            "frame": reading.frame.name,
            "decode": self._decode.to_json(),
        }
        if reading.vocabulary is not None:
            meta["vocabulary"] = {"ids": reading.vocabulary.tolist()}
        return meta


__all__ = ["FOLDER", "MemoryRun", "RolloutDumps"]
