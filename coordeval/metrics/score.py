"""A run directory to its numbers: one pure function, whatever produced the run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import coordeval
from coordeval import parsers
from coordeval.coords import frame_named
from coordeval.metrics.classes import NormalisedNames
from coordeval.metrics.coco import coco_numbers
from coordeval.metrics.coco_engine import default_engine, engine_versions
from coordeval.metrics.collect import collect
from coordeval.metrics.confidence import confidence, tied_fraction
from coordeval.metrics.counts import count_metrics, gt_per_image, pred_per_image, token_metrics
from coordeval.metrics.dup_metrics import dup_metrics, per_image_counts
from coordeval.metrics.f1_metrics import f1_metrics
from coordeval.metrics.guard_metrics import guard_in_force, guard_metrics
from coordeval.metrics.health import health_metrics, sample_flags
from coordeval.metrics.judging import in_scope, judge
from coordeval.metrics.lvis import lvis_metrics
from coordeval.metrics.names.table import name_metrics, name_rows
from coordeval.metrics.near import NEAR_IOU
from coordeval.metrics.oracle import find_oracle
from coordeval.metrics.oracle_metrics import oracle_metrics
from coordeval.metrics.outliers import outlier_metrics
from coordeval.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from coordeval.metrics.result import Scored, ScoreResult
from coordeval.metrics.slot_columns import slot_columns
from coordeval.metrics.slot_metrics import slot_metrics
from coordeval.metrics.tables import headline_row
from coordeval.metrics.text_findings import TextFindings
from coordeval.metrics.token_map import vocabulary_from_meta
from coordeval.parsers.dialects import DEFAULT_DIALECT, DIALECTS, Dialect, dialect_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from coordeval.coords import CoordFrame
    from coordeval.metrics.coco_engine import EngineName
    from coordeval.metrics.columns import Columns
    from coordeval.records import Category
    from coordeval.runs import Run

METRICS_VERSION = "2"


def score_run(
    run: Run,
    *,
    protocol: Protocol | None = None,
    dialect: Dialect | None = None,
    score_source: str = "auto",
    categories: Sequence[Category] | None = None,
    engine: EngineName | None = None,
    progress: Callable[[int], None] | None = None,
) -> ScoreResult:
    """Score a run under a protocol; everything else comes from run.json, else the defaults.

    A run without samples, or with nothing but engine errors, gives the status `empty`. Raises
    DataError for lines that cannot be read, ids that stand twice and `scores` of another length;
    ConfigError for a score source that the run cannot give, and for synonyms that contradict each
    other or the dataset's class list.
    """
    protocol = protocol or PROTOCOLS[DEFAULT_PROTOCOL]
    dialect = dialect or _dialect_of(run)
    frame = _frame_of(run, protocol, dialect)
    findings = TextFindings(
        NormalisedNames(protocol.name_rule), vocabulary_from_meta(run.meta), score_source
    )
    columns = collect(
        run.rollouts(),
        dialect=dialect,
        frame=frame,
        categories=categories if categories is not None else run.categories,
        protocol=protocol,
        dataset_classes=run.categories,
        progress=progress,
        each_part=findings.read,
        source=str(run.path),
    )
    findings.finish()
    scores = confidence(columns, score_source, findings.logprob())
    inside, kept = in_scope(columns, protocol)
    whole, values = columns, scores.values
    if not kept.all():
        inside, values = inside[kept], values[kept]
        columns = replace(columns, pred=columns.pred.subset(kept))
    scored = judge(columns, protocol, inside)
    quality, per_class_ap = _scored_metrics(columns, scored, protocol, values, engine)
    duplicates, loops = findings.duplicates(), findings.loops()
    flags = sample_flags(whole)
    slots = slot_columns(run, columns.images)
    guarded = guard_in_force(run.meta, columns)
    oracle = find_oracle(columns, scored, protocol)
    names = name_rows(whole, protocol.name_rule) if protocol.names is not None else None
    metrics = {
        **health_metrics(whole, flags),
        **dup_metrics(whole, duplicates, loops),
        **quality,
        **count_metrics(whole),
        **name_metrics(names),
        **token_metrics(whole),
        **_outliers(whole),
        **slot_metrics(slots),
        **guard_metrics(columns, in_force=guarded),
        **oracle_metrics(columns, oracle, protocol.iou_thresholds, headline_row(scored.aware)),
    }
    return ScoreResult(
        metrics={key: _plain(value) for key, value in metrics.items()},
        status=_status(run, columns),
        protocol=_protocol_json(protocol, scores.source, columns),
        versions=_versions(engine),
        score_source=scores.source,
        reading={"dialect": dialect.to_json(), "frame": frame.name} | _how_chosen(run),
        columns=columns,
        scored=scored,
        scores=values,
        flags=flags,
        duplicates=duplicates,
        loops=loops,
        per_class_ap=per_class_ap,
        slots=slots,
        guarded=guarded,
        oracle=oracle,
        rules=protocol,
        names=names,
    )


def _frame_of(run: Run, protocol: Protocol, dialect: Dialect) -> CoordFrame:
    if dialect.frame is not None:  # what its numbers mean is part of another model's dialect
        return frame_named(dialect.frame)
    return frame_named(protocol.frame) if protocol.frame else run.frame


def _dialect_of(run: Run) -> Dialect:
    raw = run.meta.get("dialect")
    if isinstance(raw, dict):
        return dialect_from_json(raw)
    return DIALECTS[DEFAULT_DIALECT]


def _how_chosen(run: Run) -> dict[str, Any]:
    """Why this dialect, where nobody named it (`--dialect auto`)."""
    proposal = run.meta.get("dialect_proposal")
    return {"auto": proposal} if isinstance(proposal, dict) else {}


def _outliers(columns: Columns) -> dict[str, float | None]:
    drops = per_image_counts(~columns.record_valid, columns)
    surplus = np.maximum(pred_per_image(columns) - gt_per_image(columns), 0)
    return outlier_metrics(drops[columns.alive], surplus[columns.alive])


def _scored_metrics(
    columns: Columns,
    scored: Scored,
    protocol: Protocol,
    scores: NDArray[np.float64],
    engine: EngineName | None,
) -> tuple[dict[str, float | None], dict[int, tuple[float | None, float | None]]]:
    metrics = {
        **f1_metrics("f1", scored.aware, protocol),
        **f1_metrics("f1_loc", scored.agnostic, protocol),
        **f1_metrics("f1_dedup", scored.deduplicated, protocol),
    }
    coco = coco_numbers(
        columns,
        scores,
        scored.best_iou,
        scored.aware.times_matched(),
        crowd=protocol.crowd,
        engine=engine,
    )
    metrics |= coco.metrics | lvis_metrics(columns, scores, engine)
    metrics["score/tied_frac"] = tied_fraction(scores)
    return metrics, coco.per_class


def _plain(value: Any) -> float | int | None:
    """Python numbers only; anything that is not finite would be a defect, not a value."""
    if value is None:
        return None
    number = value.item() if isinstance(value, np.generic) else value
    assert np.isfinite(number)
    return number  # type: ignore[no-any-return]


def _status(run: Run, columns: Columns) -> str:
    """`empty`: nothing evaluated; `partial`: the run says so or lost lines; else `complete`."""
    if not columns.alive.any():
        return "empty"
    written = run.meta.get("status")
    counts = run.meta.get("counts")
    promised = counts.get("samples") if isinstance(counts, dict) else None
    lost = isinstance(promised, int) and promised > len(columns.images)
    return "partial" if lost or written not in (None, "complete") else "complete"


def _protocol_json(protocol: Protocol, source: str, columns: Columns) -> dict[str, Any]:
    universe = columns.universe
    digest = hashlib.sha256("\0".join(sorted(universe.names)).encode("utf-8", "surrogatepass"))
    return protocol.to_json() | {
        "score_source": source,
        "classes": {
            "source": universe.source,
            "count": len(universe.names),
            "sha256": digest.hexdigest()[:16],
        },
        "coco": {"iou": ".50:.05:.95", "max_dets": [1, 10, 100], "order": "dataset, emission"},
        "near_iou": NEAR_IOU,
    }


def _versions(engine: EngineName | None) -> dict[str, str]:
    return {
        "coordeval": coordeval.__version__,
        "parser": parsers.PARSER_VERSION,
        "metrics": METRICS_VERSION,
        "coco_engine": engine or default_engine(),
        **engine_versions(),
    }


__all__ = ["METRICS_VERSION", "score_run"]
