"""A run under oracle fixes: which predictions are written, and which verdicts count as mended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.attribution.labels import ASIDE, RIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.attribution.candidates import Candidates
    from coordeval.metrics.attribution.misses import MissCause


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

    def without(self, rows: NDArray[np.bool_]) -> State:
        """The state in which these predictions (N) were never written."""
        return replace(self, present=self.present & ~rows, barred=self.barred | rows, is_fixed=True)

    def solved_labels(self, label: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Which predictions (N) have a verdict that counts as mended."""
        if not self.labels:
            return np.zeros(len(label), dtype=bool)
        assert not self.labels & {RIGHT, ASIDE}
        return np.isin(label, list(self.labels))

    def solved_misses(self, missed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the missed objects (G) count as found."""
        if not self.misses:
            return np.zeros(len(missed), dtype=bool)
        return self.candidates.misses.of_cause(missed, self.misses)


def initial_state(candidates: Candidates) -> State:
    """The run as it is."""
    return State(
        candidates=candidates,
        present=candidates.valid,
        barred=np.zeros(len(candidates), dtype=bool),
    )


__all__ = ["State", "initial_state"]
