"""Score runs so that their numbers compare: one protocol, one score source, one class list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.errors import NotComparable, RunIncomplete
from coordeval.jsonl import load_json
from coordeval.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, protocol_named
from coordeval.metrics.score import score_run
from coordeval.metrics.write import METRICS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.metrics.result import ScoreResult
    from coordeval.runs import Run
    from coordeval.stats.pairing import PartialRun


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualScores:
    """Scored runs, what was done to make them comparable, and what could not be made so."""

    results: tuple[ScoreResult, ...]
    notes: tuple[str, ...]
    mismatches: tuple[str, ...]


def score_equally(
    runs: Sequence[PartialRun],
    *,
    protocol: str | None = None,
    score_source: str = "auto",
    progress: Callable[[str], None] = lambda _: None,
) -> EqualScores:
    """Score every run from its texts.

    Without `protocol` the one that the runs' stored scores name is taken, else the default. Where
    `auto` gives runs different score sources, all get `constant`. A run without a class list
    takes over another's. Raises RunIncomplete where a run has nothing to evaluate.
    """
    names = [protocol or stored_protocol(run) or "" for run in runs]
    mismatches: list[str] = []
    known = [name for name in names if name]
    if len(set(known)) > 1:
        mismatches.append("scored under other protocols: " + " / ".join(n or "-" for n in names))
    fallback = known[0] if known else DEFAULT_PROTOCOL
    names = [name or fallback for name in names]
    categories = next((run.categories for run in runs if run.categories), None)
    results: list[ScoreResult] = []
    for number, run in enumerate(runs, start=1):
        progress(f"scoring {number} of {len(runs)}")
        results.append(
            score_run(
                run,
                protocol=protocol_named(names[number - 1]),
                score_source=score_source,
                categories=run.categories or categories,
            )
        )
    for run, result in zip(runs, results, strict=True):
        if result.status == "empty":
            raise RunIncomplete(
                f"{run.path}: nothing to compare: none of the common images is without an "
                "engine error"
            )
    notes: list[str] = []
    sources = {result.score_source for result in results if len(result.columns.pred)}
    if score_source == "auto" and len(sources) > 1:
        lacking = [
            str(run.path)
            for run, result in zip(runs, results, strict=True)
            if result.score_source == "constant"
        ]
        why = f"{', '.join(lacking)}: not every box has a score" if lacking else "their own differ"
        notes.append(f"AP with the same score for every box in all runs ({why})")
        results = [
            result
            if result.score_source == "constant"
            else score_run(
                run,
                protocol=protocol_named(name),
                score_source="constant",
                categories=run.categories or categories,
            )
            for run, result, name in zip(runs, results, names, strict=True)
        ]
    mismatches += _other_classes(results)
    return EqualScores(results=tuple(results), notes=tuple(notes), mismatches=tuple(mismatches))


def _other_classes(results: Sequence[ScoreResult]) -> list[str]:
    digests = {result.protocol["classes"]["sha256"] for result in results}
    if len(digests) <= 1:
        return []
    counts = " / ".join(str(result.protocol["classes"]["count"]) for result in results)
    return [f"other class lists ({counts} classes)"]


def stored_protocol(run: Run) -> str | None:
    """The protocol that RUN/score was made with, where this version knows it; None without one."""
    path = run.path / "score" / METRICS_NAME
    if not run.is_directory or not path.is_file():
        return None
    try:
        stored: Any = load_json(path.read_bytes())
    except (OSError, ValueError):
        return None  # a broken cache is no obstacle: the run is scored from its texts
    protocol = stored.get("protocol") if isinstance(stored, dict) else None
    name = protocol.get("name") if isinstance(protocol, dict) else None
    return name if isinstance(name, str) and name in PROTOCOLS else None


def refuse_mismatches(mismatches: Sequence[str], *, allowed: bool) -> None:
    """Raise NotComparable with everything that stands against a comparison, unless allowed."""
    if mismatches and not allowed:
        raise NotComparable(
            "the runs do not compare: "
            + "; ".join(mismatches)
            + "; --allow-mismatch compares them all the same and marks it"
        )


__all__ = ["EqualScores", "refuse_mismatches", "score_equally", "stored_protocol"]
