"""What became of everything in a rollout and its ground truth, as counts that add up."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCounts:
    """Counts of one rollout or, added up, of many.

    Rollouts: `rollouts` in all; `failed` (the engine's fault; not read), `invalid` (no readable
    container) and `truncated` ones (cut by the token limit, or not closed; invalid ones among
    them), and those `retokenised`, whose own token ids are missing or belong to another text.

    Records: found = matched + false_positives + duplicates + on_crowd + dropped + unread, where
    `found` is the parser's objects_found, `dropped` the parser's drops, and `unread` the valid ones
    of invalid rollouts, and those that a prefix target leaves out (see `lasting`).
    `unmatchable_slots` counts matched objects whose coordinates cannot be taught slot by slot
    (another kind or number of points than the true object's, or coordinates spelled out with
    ordinary tokens); a clean target shows the true geometry of those of the first sort, and has
    none of the second. `unusual` counts matched objects that are not written canonically and whose
    structure a prefix target therefore does not teach.

    Ground truth: annotated = matched + missed + crowd + degenerate (that cannot be written).

    Pairs: `gating_rejections` overlap, but less than the gate asks for.

    Unlikelihood, with a clean target: duplicates = unlikely + unlikely_merged + no_divergence:
    places of their own, places that an earlier duplicate has already, and duplicates that do not
    leave the clean target, or leave it for what is taught there. 0 with prefix targets.
    """

    rollouts: int = 0
    failed: int = 0
    invalid: int = 0
    truncated: int = 0
    retokenised: int = 0
    found: int = 0
    matched: int = 0
    false_positives: int = 0
    duplicates: int = 0
    on_crowd: int = 0
    dropped: int = 0
    unread: int = 0
    unmatchable_slots: int = 0
    unusual: int = 0
    annotated: int = 0
    missed: int = 0
    crowd: int = 0
    degenerate: int = 0
    gating_rejections: int = 0
    unlikely: int = 0
    unlikely_merged: int = 0
    no_divergence: int = 0

    def __add__(self, other: TargetCounts) -> TargetCounts:
        """Field by field."""
        mine, theirs = self.by_name(), other.by_name()
        return TargetCounts(**{name: mine[name] + theirs[name] for name in mine})

    def by_name(self) -> dict[str, int]:
        """All counts by their names, in one order."""
        return {field.name: int(getattr(self, field.name)) for field in fields(self)}


__all__ = ["TargetCounts"]
