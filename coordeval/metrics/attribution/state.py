"""A run under oracle fixes: which predictions are written, and which verdicts count as mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from coordeval.metrics.attribution.labels import ASIDE, RIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.attribution.candidates import Candidates

MissCause = Literal["engine", "cut", "other"]
_CUT_SHORT = ("length", "loop_guard", "grammar_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the fixes so far have made of a run; a fix returns a new one and changes none.

    `present` (N) are the predictions that are written, `barred` (N) those that no later repair may
    bring back. `labels` are the verdicts that count as mended, `misses` the causes for which a
    missed object counts as found.
    """

    candidates: Candidates
    present: NDArray[np.bool_]
    barred: NDArray[np.bool_]
    labels: frozenset[int] = frozenset()
    misses: frozenset[MissCause] = frozenset()
    is_fixed: bool = False

    def solved_labels(self, label: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which predictions (N) have a verdict that counts as mended."""
        if not self.labels:
            return np.zeros(len(label), dtype=bool)
        assert not self.labels & {RIGHT, ASIDE}
        return np.isin(label, list(self.labels))

    def solved_misses(self) -> NDArray[np.bool_]:
        """Which objects (G) count as found where they are missed."""
        gt_image = self.candidates.columns.gt.shapes.image
        return np.isin(miss_causes(self.candidates)[gt_image], list(self.misses))


def initial_state(candidates: Candidates) -> State:
    """The run as it is."""
    return State(
        candidates=candidates,
        present=candidates.valid,
        barred=np.zeros(len(candidates), dtype=bool),
    )


def miss_causes(candidates: Candidates) -> NDArray[np.str_]:
    """Why objects of each image (I) are missed, where no prediction is to blame.

    `engine`: the engine failed. `cut`: the answer ended before its own end (token limit, loop
    guard, grammar error; where no finish reason is stored, a text that is cut). `other`: the rest.
    """
    return np.array(
        [
            "engine"
            if entry.failed
            else "cut"
            if entry.finish_reason in _CUT_SHORT
            or (entry.finish_reason is None and "truncated" in entry.issues)
            else "other"
            for entry in candidates.columns.images
        ],
        dtype=np.str_,
    )


__all__ = ["MissCause", "State", "initial_state", "miss_causes"]
