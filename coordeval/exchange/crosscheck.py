"""What a dump's own parser reported, set beside what this project's parser finds in the text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.parsers import parse

if TYPE_CHECKING:
    from coordeval.exchange.dump_rows import ImportedSample
    from coordeval.parsers.dialects import Dialect

# Other tools' names for reasons, and which of ours they cover.
COVERED: dict[str, tuple[str, ...]] = {
    "wrong_arity": ("wrong_arity", "coord_out_of_range"),
    "non_coord_token": ("wrong_arity", "coord_out_of_range"),
    "unexpected_keys": (
        "unexpected_keys",
        "duplicate_keys",
        "missing_geometry",
        "multiple_geometry",
    ),
    "key_invalid": ("unexpected_keys",),
    "missing_geom": ("missing_geometry",),
    "unknown_geom": ("unexpected_keys", "missing_geometry"),
    "missing_desc": ("missing_desc",),
    "order_violation": ("key_order",),
    "bbox_invalid": ("degenerate_box",),
    "other": ("malformed_record",),
}
MAX_LISTED = 20


@dataclass(slots=True, kw_only=True)
class CrossCheck:
    """Counts over all samples that report drops.

    The records that a text's end cuts (`truncated_record`) are not counted on our side: other
    tools report them apart. `differing` lists up to 20 ids with (reported, found).
    """

    samples: int = 0
    agreeing: int = 0
    reported_dropped: int = 0
    found_dropped: int = 0
    reported_by_reason: Counter[str] = field(default_factory=Counter)
    found_by_reason: Counter[str] = field(default_factory=Counter)
    differing: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, sample: ImportedSample, dialect: Dialect) -> None:
        """Compare one sample; samples whose dump says nothing of drops are passed over."""
        stats: dict[str, Any] = {}
        for key in ("stats", "parse"):
            if isinstance(sample.reported.get(key), dict):
                stats = stats or sample.reported[key]
        reported = stats.get("parse_dropped_invalid")
        if isinstance(reported, bool) or not isinstance(reported, int | float):
            return
        reasons = stats.get("parse_dropped_invalid_by_reason")
        if isinstance(reasons, dict):
            self.reported_by_reason.update(
                {name: int(n) for name, n in reasons.items() if isinstance(n, int | float)}
            )
        found = dict(parse(sample.rollout.text, dialect).dropped_by_reason)
        found.pop("truncated_record", None)
        self.found_by_reason.update(found)
        dropped = sum(found.values())
        self.samples += 1
        self.reported_dropped += int(reported)
        self.found_dropped += dropped
        if dropped == reported:
            self.agreeing += 1
        elif len(self.differing) < MAX_LISTED:
            self.differing.append((sample.rollout.id, int(reported), dropped))

    def by_reason(self) -> dict[str, dict[str, int]]:
        """Per reported reason: how many were reported, and how many we find that it covers."""
        return {
            name: {
                "reported": count,
                "found": sum(self.found_by_reason[ours] for ours in COVERED.get(name, (name,))),
            }
            for name, count in self.reported_by_reason.most_common()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "samples": self.samples,
            "agreeing": self.agreeing,
            "reported_dropped": self.reported_dropped,
            "found_dropped": self.found_dropped,
            "by_reason": self.by_reason(),
            "found_by_reason": dict(self.found_by_reason.most_common()),
            "differing": [
                {"id": name, "reported": reported, "found": found}
                for name, reported, found in self.differing
            ],
        }


__all__ = ["COVERED", "CrossCheck"]
