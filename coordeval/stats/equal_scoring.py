"""Score runs so that their numbers compare: one protocol, one score source, one class list.

How names are matched is part of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coordeval.errors import NotComparable, RunIncomplete
from coordeval.jsonl import dump_line, load_document
from coordeval.metrics.names.stored import names_essence, names_from_json, names_text
from coordeval.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, protocol_named
from coordeval.metrics.score import score_run
from coordeval.metrics.write import METRICS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.metrics.names.matching import NameMatching
    from coordeval.metrics.protocols import Protocol
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
    matching: NameMatching | None = None,
    score_source: str = "auto",
    allow_mismatch: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> EqualScores:
    """Score every run from its texts.

    Without `protocol` the one that the runs' stored scores name is taken, else the default;
    without `matching` (and `protocol`), so is their way of matching names. Where `auto` gives runs
    different score sources, all get `constant`. A run without a class list takes over another's.
    Raises RunIncomplete where a run has nothing to evaluate, NotComparable where a stored way of
    matching names cannot be had again, and, unless `allow_mismatch`, where the stored protocols
    differ.
    """
    stored = [stored_protocol(run) for run in runs]
    known = next((raw for raw in stored if raw is not None), {"name": DEFAULT_PROTOCOL})
    held = [known if raw is None else raw for raw in stored]  # never scored: as the others
    mismatches = _stored_differ(runs, held, protocol, matching)
    refuse_mismatches(mismatches, allowed=allow_mismatch)
    rules = _rules(runs, held, protocol, matching)
    categories = next((run.categories for run in runs if run.categories), None)
    results: list[ScoreResult] = []
    for number, (run, rule) in enumerate(zip(runs, rules, strict=True), start=1):
        progress(f"scoring {number} of {len(runs)}")
        results.append(
            score_run(
                run,
                protocol=rule,
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
                protocol=rule,
                score_source="constant",
                categories=run.categories or categories,
            )
            for run, result, rule in zip(runs, results, rules, strict=True)
        ]
    mismatches += _other_classes(results)
    return EqualScores(results=tuple(results), notes=tuple(notes), mismatches=tuple(mismatches))


def _stored_differ(
    runs: Sequence[Run],
    held: Sequence[Mapping[str, Any]],
    protocol: str | None,
    matching: NameMatching | None,
) -> list[str]:
    """In what the stored scores' protocols differ, where none is asked for instead."""
    out: list[str] = []
    names = [str(raw["name"]) for raw in held]
    if protocol is None and len(set(names)) > 1:
        out.append(f"scored under other protocols: {' / '.join(names)}")
    ways = [raw.get("names") for raw in held]
    if (
        protocol is None
        and matching is None
        and any(names_essence(way) != names_essence(ways[0]) for way in ways)
    ):
        shown = " / ".join(
            f"{run.path}: {names_text(w)}" for run, w in zip(runs, ways, strict=True)
        )
        out.append(
            f"scored with other ways of matching names ({shown}): score them alike, or give "
            "--synonyms, --semantic or --protocol for all of them"
        )
    return out


def _rules(
    runs: Sequence[Run],
    held: Sequence[Mapping[str, Any]],
    protocol: str | None,
    matching: NameMatching | None,
) -> list[Protocol]:
    rules = [protocol_named(protocol or str(raw["name"])) for raw in held]
    if matching is not None:
        return [replace(rule, names=matching) for rule in rules]
    if protocol is not None:
        return rules
    made: dict[bytes, NameMatching | None] = {}
    for run, raw in zip(runs, held, strict=True):
        key = dump_line(names_essence(raw.get("names")))
        if key not in made:  # a model is loaded once
            made[key] = names_from_json(raw.get("names"), where=str(run.path / "score"))
    return [
        replace(rule, names=made[dump_line(names_essence(raw.get("names")))])
        for rule, raw in zip(rules, held, strict=True)
    ]


def _other_classes(results: Sequence[ScoreResult]) -> list[str]:
    digests = {result.protocol["classes"]["sha256"] for result in results}
    if len(digests) <= 1:
        return []
    counts = " / ".join(str(result.protocol["classes"]["count"]) for result in results)
    return [f"other class lists ({counts} classes)"]


def stored_protocol(run: Run) -> dict[str, Any] | None:
    """The protocol that RUN/score was made with, where this version knows it; None without one."""
    path = run.path / "score" / METRICS_NAME
    if not run.is_directory or not path.is_file():
        return None
    try:
        stored: Any = load_document(path)
    except (OSError, ValueError):
        return None  # a broken cache is no obstacle: the run is scored from its texts
    protocol = stored.get("protocol") if isinstance(stored, dict) else None
    name = protocol.get("name") if isinstance(protocol, dict) else None
    return protocol if isinstance(name, str) and name in PROTOCOLS else None


def refuse_mismatches(mismatches: Sequence[str], *, allowed: bool) -> None:
    """Raise NotComparable with everything that stands against a comparison, unless allowed."""
    if mismatches and not allowed:
        raise NotComparable(
            "the runs do not compare: "
            + "; ".join(mismatches)
            + "; --allow-mismatch compares them all the same and marks it"
        )


__all__ = ["EqualScores", "refuse_mismatches", "score_equally", "stored_protocol"]
