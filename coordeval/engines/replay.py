"""The engine without a model: serves the texts of a recorded run by id."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval import __version__
from coordeval.engines.base import error_rollout
from coordeval.errors import DataError
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from coordeval.coords import CoordVocabulary
    from coordeval.engines.base import Request
    from coordeval.records import Rollout


class ReplayEngine:
    """Answers each request with the recorded rollout of the same id and sample index.

    `recording` is a run directory or a file of rollout lines. Size and what is known of the image
    come from the requested sample, everything else from the recording. A request without a recorded
    line becomes an error line. `delay_s` waits after each batch, to try out interruptions. Raises
    DataError where the recording can't be read or holds a key twice.
    """

    def __init__(self, recording: Path, *, batch_size: int = 8, delay_s: float = 0.0) -> None:
        self._batch_size = batch_size
        self._delay_s = delay_s
        self._rollouts: dict[tuple[str, int], Rollout] = {}
        self.run = open_run(recording)
        for rollout in self.run.rollouts():
            key = (rollout.id, rollout.sample_index)
            if key in self._rollouts:
                raise DataError(f"{recording}: id {rollout.id!r}, sample {key[1]} is there twice")
            self._rollouts[key] = rollout

    def describe(self) -> dict[str, Any]:
        """Say what this engine is, as `Engine.describe`."""
        return {
            "identity": {"name": "replay"},
            "environment": {"batch_size": self._batch_size},
            "versions": {"coordeval": __version__},
        }

    def vocabulary(self) -> CoordVocabulary | None:
        """None: a recording has no tokenizer."""
        return None

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield the recorded rollouts in the order of the requests."""
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            if self._delay_s:
                time.sleep(self._delay_s)
            yield [self._answer(request) for request in batch]

    def _answer(self, request: Request) -> Rollout:
        recorded = self._rollouts.get(request.key)
        if recorded is None:
            return error_rollout(request, f"{self.run.path}: no recorded line for this id")
        sample = request.sample
        return replace(
            recorded,
            width=sample.width,
            height=sample.height,
            gt=sample.objects,
            image=sample.image,
            image_id=sample.image_id,
            federated=sample.federated,
        )

    def close(self) -> None:
        """Forget the recording."""
        self._rollouts.clear()


__all__ = ["ReplayEngine"]
