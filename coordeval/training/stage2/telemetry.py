"""`rollout/*` of a training log: what the rollouts of a step were like, over all processes.

Under the catalogue's names these are the numbers of the first views, as `coordeval score` would
give them for a run of these rollouts; the other views' stand under `rollout/views/`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from coordeval.metrics.f1 import f1_value, ratio
from coordeval.training.stage2.rollout_sums import added, rollout_metrics, rollout_sums
from coordeval.training.stage2.target_maker import COUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.records import Rollout
    from coordeval.training.rollout_eval.ranks import Ranks
    from coordeval.training.stage2.rollout_sums import Reading, RolloutSums

PREFIX = "rollout/"
VIEW_KEYS = (
    "samples/total",
    "samples/errors",
    "samples/conforming_rate",
    "samples/empty_pred_rate",
    "samples/truncated_rate",
    "parse/drop_rate",
    "dup/exact_rate",
    "dup/near_rate",
    "dup/loop_rate",
    "f1/0.50/precision",
    "f1/0.50/recall",
    "f1/0.50/f1",
    "tokens/mean",
)
"""What is logged of the views beyond the first."""


class RolloutTelemetry:
    """Collects one step of one process; `views` is how many rollouts each sample has.

    The names of its values are the same on every process and in every step.
    """

    def __init__(self, reading: Reading, *, views: int = 1) -> None:
        self._reading, self._views = reading, views
        self.begin([])

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Forget the step before, and take in all rollouts of this process in a new one."""
        by_view: dict[int, dict[str, Rollout]] = {}
        for rollout in rollouts:
            by_view.setdefault(rollout.sample_index, {})[rollout.id] = rollout
        self._first = self._summed(by_view.pop(0, {}))
        self._others = added(self._summed(by_view[view]) for view in sorted(by_view))
        self._targets: Counter[str] = Counter()

    def _summed(self, rollouts: Mapping[str, Rollout]) -> RolloutSums:
        headline = (replace(rollout, sample_index=0) for rollout in rollouts.values())
        return rollout_sums(headline, self._reading)

    def count(self, counts: Mapping[str, int]) -> None:
        """Take in what became of one rollout (see `COUNTED`)."""
        self._targets.update(counts)

    def values(self, ranks: Ranks) -> dict[str, float | None]:
        """All values over all processes; called on every process. None: there is no value.

        `rollout/target/*` count over all views what became of rollouts and ground truth;
        `rollout/match/*` are precision, recall and F1 by the matching that targets are made with.
        """
        gathered = ranks.gather((self._first, self._others, dict(self._targets)))
        firsts, others, counted = zip(*gathered, strict=True)
        out = rollout_metrics(added(firsts))
        if self._views > 1:
            beyond = rollout_metrics(added(others))
            out |= {f"views/{key}": beyond[key] for key in VIEW_KEYS}
        targets = {name: sum(part.get(name, 0) for part in counted) for name in COUNTED}
        out |= _matching(targets)
        out |= {f"target/{name}": value for name, value in targets.items()}
        return {PREFIX + key: value for key, value in out.items()}


def _matching(targets: Mapping[str, int]) -> dict[str, float | None]:
    matched, missed = targets["matched"], targets["missed"]
    wrong = targets["false_positives"] + targets["duplicates"] + targets["unread"]
    return {
        "match/precision": ratio(matched, matched + wrong),
        "match/recall": ratio(matched, matched + missed),
        "match/f1": f1_value(matched, wrong, missed),
    }


__all__ = ["PREFIX", "VIEW_KEYS", "RolloutTelemetry"]
