"""Dropped records of two runs side by side, by reason and detail, with what was written there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.health import detail_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.metrics.result import ScoreResult

EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DropExample:
    """Text that spoilt records: the offending piece, its 0-based slot (None: no list), how often.

    `evidence` is verbatim model output.
    """

    evidence: str
    slot: int | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRow:
    """Records dropped for one reason and detail: how many per run, and on how many images.

    `examples` are the most frequent pieces of text, per run.
    """

    reason: str
    detail: str | None
    counts: tuple[int, ...]
    images: tuple[int, ...]
    examples: tuple[tuple[DropExample, ...], ...]


def drop_rows(results: Sequence[ScoreResult]) -> list[DropRow]:
    """One row per (reason, detail) that any run has, most frequent first; empty without drops."""
    tallies = [_tally(result) for result in results]
    keys = sorted({key for tally in tallies for key in tally}, key=lambda k: (k[0], k[1] or ""))
    rows = [
        DropRow(
            reason=key[0],
            detail=key[1],
            counts=tuple(tally[key].total if key in tally else 0 for tally in tallies),
            images=tuple(len(tally[key].images) if key in tally else 0 for tally in tallies),
            examples=tuple(tally[key].examples() if key in tally else () for tally in tallies),
        )
        for key in keys
    ]
    return sorted(rows, key=lambda row: -max(row.counts))


class _Tally:
    def __init__(self) -> None:
        self.total = 0
        self.images: set[int] = set()
        self.written: Counter[tuple[str, int | None]] = Counter()

    def examples(self) -> tuple[DropExample, ...]:
        ordered = sorted(self.written.items(), key=lambda item: (-item[1], item[0][0]))
        return tuple(
            DropExample(evidence=evidence, slot=slot, count=count)
            for (evidence, slot), count in ordered[:EXAMPLES]
        )


def _tally(result: ScoreResult) -> dict[tuple[str, str | None], _Tally]:
    records = result.columns.records
    out: dict[tuple[str, str | None], _Tally] = {}
    for row in np.flatnonzero(~result.columns.record_valid).tolist():
        detail = records.detail[row]
        key = (records.reason[row] or "", None if detail is None else detail_key(detail))
        tally = out.setdefault(key, _Tally())
        tally.total += 1
        tally.images.add(records.image[row])
        evidence = records.evidence[row]
        if evidence is not None and evidence.strip():
            tally.written[evidence, records.slot[row]] += 1
    return out


__all__ = ["DropExample", "DropRow", "drop_rows"]
