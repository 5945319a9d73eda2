"""The measured counterfactual: another run on the same images beside the oracle.

An oracle says what perfect mending would buy. A run that was decoded under other control (grammar,
coordinate mask, loop guard) says what that control really bought, and what is left for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.errors import NotComparable
from coordeval.metrics.attribution.attribution import Attribution, attribute
from coordeval.metrics.attribution.measure import SCORE_KEYS, Scores
from coordeval.metrics.score import score_run
from coordeval.metrics.truth_digest import truth_digest
from coordeval.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coordeval.metrics.protocols import Protocol
    from coordeval.records import Category, Rollout

HEALTH_KEYS = (
    "samples/conforming_rate",
    "parse/drop_rate",
    "dup/exact_rate",
    "dup/loop_rate",
    "samples/truncated_rate",
    "tokens/mean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonRun(Run):
    """A run restricted to some ids, in file order or in that of their places."""

    ids: frozenset[str]
    places: Mapping[str, int] | None = None

    def rollouts(self) -> Iterator[Rollout]:
        """Rollouts of those ids."""
        held = (rollout for rollout in Run.rollouts(self) if rollout.id in self.ids)
        places = self.places
        if places is None:
            return held
        return iter(sorted(held, key=lambda one: (places[one.id], one.sample_index)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """Two runs on their common ids: scores, health, and the costs of each error type in both.

    `common`, `only_base`, `only_other` count ids. `bought` is other - base per key, `left` is what
    the other run still lacks to 1. AP is None on both sides where the runs' scores come from
    different sources (`note` says so). `base_decode`, `other_decode` are the decode settings that
    the runs record, None where they record none.
    """

    name: str
    common: int
    only_base: int
    only_other: int
    base: Scores
    other: Scores
    base_costs: Attribution
    other_costs: Attribution
    note: str | None
    base_decode: dict[str, Any] | None = None
    other_decode: dict[str, Any] | None = None

    @property
    def bought(self) -> Scores:
        """Score and health differences, other - base."""
        out: Scores = {}
        for key, value in self.other.items():
            before = self.base[key]
            out[key] = None if value is None or before is None else value - before
        return out

    @property
    def left(self) -> Scores:
        """1 - score of the other run: what its decoding did not buy."""
        return {
            key: None if (value := self.other[key]) is None else 1.0 - value for key in SCORE_KEYS
        }

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, with the costs per error type side by side."""
        return {
            "run": self.name,
            "common": self.common,
            "only_base": self.only_base,
            "only_other": self.only_other,
            "note": self.note,
            "decode": {"base": self.base_decode, "other": self.other_decode},
            "base": self.base,
            "other": self.other,
            "bought": self.bought,
            "left": self.left,
            "errors": [
                {
                    "short_name": before.short_name,
                    "count": {"base": before.count, "other": after.count},
                    "in_order": {"base": before.in_order, "other": after.in_order},
                }
                for before, after in zip(self.base_costs.costs, self.other_costs.costs, strict=True)
            ],
        }


def measure_against(
    base: Run, other: Run, *, score_source: str = "auto", protocol: Protocol | None = None
) -> Counterfactual:
    """Score and attribute both runs on their common ids, under the same protocol.

    Both in the base's order: AP takes boxes of one score in the order of the lines.

    Raises NotComparable where no id is common, or where an id has other ground truth in the two.
    """
    truth, other_truth = _truth(base), _truth(other)
    common = frozenset(truth) & frozenset(other_truth)
    if not common:
        raise NotComparable(f"{base.name} and {other.name} have no common ids")
    changed = sorted(key for key in common if truth[key] != other_truth[key])
    if changed:
        raise NotComparable(
            f"{base.name} and {other.name}: {len(changed)} of {len(common)} common ids have other "
            f"ground truth, e.g. {changed[0]!r}"
        )
    places = _places([key for key in truth if key in common], other_truth)
    before, after = (
        _side(part, protocol, score_source, base.categories)
        for part in (_part(base, common, None), _part(other, common, places))
    )
    note = None
    if before.score_source != after.score_source:
        note = f"AP is not comparable: scores are {before.score_source} and {after.score_source}"
        for side in (before, after):
            side.scores["coco/AP"] = None
    return Counterfactual(
        name=str(other.path),
        common=len(common),
        only_base=len(truth) - len(common),
        only_other=len(other_truth) - len(common),
        base=before.scores,
        other=after.scores,
        base_costs=before.costs,
        other_costs=after.costs,
        note=note,
        base_decode=_decode_of(base),
        other_decode=_decode_of(other),
    )


def _part(run: Run, ids: frozenset[str], places: Mapping[str, int] | None) -> CommonRun:
    return CommonRun(
        path=run.path, rollouts_path=run.rollouts_path, meta=run.meta, ids=ids, places=places
    )


def _places(wanted: Sequence[str], other: Mapping[str, Any]) -> dict[str, int] | None:
    """Where each wanted id stands; None where the other run has them in that order already."""
    places = {key: place for place, key in enumerate(wanted)}
    return None if [key for key in other if key in places] == list(wanted) else places


def _decode_of(run: Run) -> dict[str, Any] | None:
    raw = run.meta.get("decode")
    return raw if isinstance(raw, dict) else None


def _truth(run: Run) -> dict[str, bytes]:
    """A digest of the ground truth of each id that has a headline."""
    return {
        rollout.id: truth_digest(rollout) for rollout in run.rollouts() if rollout.sample_index == 0
    }


class _Side(NamedTuple):
    """What is said of one of the runs; the scored run itself is not kept."""

    score_source: str
    scores: Scores
    costs: Attribution


def _side(
    run: CommonRun,
    protocol: Protocol | None,
    score_source: str,
    categories: Sequence[Category] | None,
) -> _Side:
    result = score_run(run, protocol=protocol, score_source=score_source, categories=categories)
    scores = {key: result.metrics.get(key) for key in (*SCORE_KEYS, *HEALTH_KEYS)}
    return _Side(score_source=result.score_source, scores=scores, costs=attribute(result))


__all__ = ["HEALTH_KEYS", "CommonRun", "Counterfactual", "measure_against"]
