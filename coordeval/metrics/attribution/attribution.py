"""What each error type costs: alone, and one after the other down to a perfect score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.metrics.attribution.candidates import build_candidates
from coordeval.metrics.attribution.error_types import ERROR_TYPES, DropError
from coordeval.metrics.attribution.measure import SCORE_KEYS, Measure, Scores
from coordeval.metrics.attribution.state import initial_state
from coordeval.metrics.attribution.tide import TideTable, tide_table

if TYPE_CHECKING:
    from coordeval.metrics.attribution.error_types import ErrorType
    from coordeval.metrics.attribution.state import State
    from coordeval.metrics.result import ScoreResult

ATTRIBUTION_FORMAT = "coordeval-attribution/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCost:
    """What one error type costs, in score (0..1) per key of `SCORE_KEYS`.

    `alone` is the gain of this one fix on the run as it is. `in_order` is its gain after all fixes
    before it in the table; these add up to the distance to 1. `after` is the score then reached.
    `count` says how often it occurs at IoU .50, `repairable` how many of those can be mended
    (drops only). None where the run has no such score.
    """

    short_name: str
    description: str
    count: int
    repairable: int | None
    alone: Scores
    in_order: Scores
    after: Scores

    @property
    def interaction(self) -> Scores:
        """`in_order` - `alone`: what the fixes before it change about this one."""
        return _difference(self.in_order, self.alone)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "short_name": self.short_name,
            "description": self.description,
            "count": self.count,
            "repairable": self.repairable,
            "alone": self.alone,
            "in_order": self.in_order,
            "interaction": self.interaction,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The costs of all error types in a run, in the order in which they add up."""

    status: str
    score_source: str
    baseline: Scores
    costs: tuple[ErrorCost, ...]
    tide: TideTable

    @property
    def distance(self) -> Scores:
        """1 - score: what there is to explain."""
        return {key: None if base is None else 1.0 - base for key, base in self.baseline.items()}

    @property
    def interaction(self) -> Scores:
        """What the fixes alone add up to beyond the distance (or short of it, where negative)."""
        out: Scores = {}
        for key, left in self.distance.items():
            parts = [cost.alone[key] for cost in self.costs]
            out[key] = None if left is None else left - sum(part or 0.0 for part in parts)
        return out

    def to_json(self) -> dict[str, Any]:
        """The content that `--json` prints."""
        return {
            "format": ATTRIBUTION_FORMAT,
            "status": self.status,
            "score_source": self.score_source,
            "baseline": self.baseline,
            "distance": self.distance,
            "order": [cost.short_name for cost in self.costs],
            "errors": [cost.to_json() for cost in self.costs],
            "interaction": self.interaction,
            "tide": self.tide.to_json(),
        }


def attribute(result: ScoreResult) -> Attribution:
    """Attribute the distance of a scored run to a perfect score.

    `result` must come from the default protocol; it is read, never changed. A score that the run
    does not have (nothing to find, say) is None throughout.
    """
    assert result.protocol["name"] == "coordeval"
    measure = Measure(build_candidates(result))
    start = initial_state(measure.candidates)
    baseline = measure.scores(start)
    reached, state = baseline, start
    costs = []
    for error in ERROR_TYPES:
        cost, state, reached = _cost(measure, error, start, state, baseline, reached)
        costs.append(cost)
    return Attribution(
        status=result.status,
        score_source=result.score_source,
        baseline=baseline,
        costs=tuple(costs),
        tide=tide_table(measure.candidates, measure.coco),
    )


def _cost(
    measure: Measure,
    error: ErrorType,
    start: State,
    state: State,
    baseline: Scores,
    reached: Scores,
) -> tuple[ErrorCost, State, Scores]:
    """The cost of one type, and where its fix leaves the walk down the table."""
    fixed = error.fix(state)
    after = _known(measure.scores(fixed), baseline)
    alone = _known(measure.scores(error.fix(start)), baseline)
    half = measure.f1_labels(start.present)[0]
    cost = ErrorCost(
        short_name=error.short_name,
        description=error.description,
        count=error.count(start, half),
        repairable=measure.candidates.repaired.get(error.reason, 0)
        if isinstance(error, DropError)
        else None,
        alone=_difference(alone, baseline),
        in_order=_difference(after, reached),
        after=after,
    )
    return cost, fixed, after


def _known(scores: Scores, baseline: Scores) -> Scores:
    """Scores where the run has them at all."""
    return {key: None if baseline[key] is None else scores[key] for key in SCORE_KEYS}


def _difference(scores: Scores, base: Scores) -> Scores:
    out: Scores = {}
    for key in SCORE_KEYS:
        value, before = scores[key], base[key]
        out[key] = None if value is None or before is None else value - before
    return out


__all__ = ["ATTRIBUTION_FORMAT", "Attribution", "ErrorCost", "attribute"]
