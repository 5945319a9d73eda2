"""`compare` as a pure function: runs in, differences with evidence and reasons out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.counted import counted
from coordeval.errors import ConfigError
from coordeval.metrics.names.idle import idle_groups
from coordeval.stats.bootstrap import ALPHA, CONFIDENCE, draw_weights
from coordeval.stats.changes import metric_changes, tally
from coordeval.stats.drop_reasons import drop_rows
from coordeval.stats.equal_scoring import refuse_mismatches, score_equally
from coordeval.stats.headline import headline_f1, headline_keys
from coordeval.stats.movers import find_movers
from coordeval.stats.pairing import pair_runs, said_of_other_truth, shown_ids
from coordeval.stats.recipe_book import recipes_of
from coordeval.stats.recipes import Ratio
from coordeval.stats.replicates import replicate
from coordeval.stats.settings import compare_settings, require_same
from coordeval.stats.slice_changes import slice_changes, with_class_ap
from coordeval.stats.slices import slice_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.names.matching import NameMatching
    from coordeval.metrics.result import ScoreResult
    from coordeval.runs import Run
    from coordeval.stats.changes import Change
    from coordeval.stats.drop_reasons import DropRow
    from coordeval.stats.movers import Movers
    from coordeval.stats.pairing import Pairing
    from coordeval.stats.replicates import Replicates
    from coordeval.stats.settings import Settings
    from coordeval.stats.slice_changes import SliceChange

COMPARISON_FORMAT = "coordeval-comparison/1"
DEFAULT_DRAWS, DEFAULT_COCO_DRAWS, SLICE_DRAWS = 2000, 200, 500
DROPS_KEY = "parse/drop_rate"
NUM_MOVERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """How to compare; see `coordeval compare --help`. ConfigError for draws out of range.

    `names` is how names find their class in all runs. Without it and without `protocol`, both are
    those of the runs' stored scores.
    """

    draws: int = DEFAULT_DRAWS
    coco_draws: int = DEFAULT_COCO_DRAWS
    seed: int = 0
    protocol: str | None = None
    names: NameMatching | None = None
    score_source: str = "auto"
    allow_mismatch: bool = False
    require_same: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ConfigError("--draws must be at least 100: fewer say nothing about 95 %")
        if not 20 <= self.coco_draws <= self.draws:
            raise ConfigError("--coco-draws must be at least 20 and at most --draws")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One column of the comparison; `label` is A, B, ... and `unpaired` ids that others lack."""

    label: str
    path: str
    meta: Mapping[str, Any] = field(repr=False)
    status: str
    metrics: Mapping[str, float | int | None] = field(repr=False)
    unpaired: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """One run against the reference A.

    `movers` are about F1 at the headline threshold, `drop_movers` about the share of dropped
    records (None where a run has no records); `slices` hold classes and buckets.
    """

    label: str
    changes: Mapping[str, Change]
    verdicts: Mapping[str, int]
    drops: tuple[DropRow, ...]
    movers: Movers | None
    drop_movers: Movers | None
    slices: tuple[SliceChange, ...]

    @property
    def is_worse(self) -> bool:
        """True where a headline metric is worse."""
        return self.verdicts["worse"] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that is said about two or more runs; the first run is the reference."""

    runs: tuple[ComparedRun, ...]
    versus: tuple[Versus, ...]
    images: int
    settings: Settings
    headline: tuple[str, ...]
    headline_f1: str
    protocol: Mapping[str, Any]
    versions: Mapping[str, str]
    mismatches: tuple[str, ...]
    notes: tuple[str, ...]
    options: CompareOptions

    def to_json(self) -> dict[str, Any]:
        """Plain data; keys as in the docs page."""
        return {
            "format": COMPARISON_FORMAT,
            "runs": [
                {
                    "label": run.label,
                    "path": run.path,
                    "status": run.status,
                    "unpaired": list(run.unpaired),
                    "metrics": dict(run.metrics),
                }
                for run in self.runs
            ],
            "images": self.images,
            "settings": {"same": self.settings.same, "differs": self.settings.differs},
            "mismatches": list(self.mismatches),
            "notes": list(self.notes),
            "protocol": dict(self.protocol),
            "versions": dict(self.versions),
            "method": self.method(),
            "comparisons": [_versus_json(versus) for versus in self.versus],
        }

    def method(self) -> dict[str, Any]:
        """How the evidence was made."""
        return {
            "resampling": "paired bootstrap over images",
            "interval": "percentile",
            "confidence": CONFIDENCE,
            "draws": self.options.draws,
            "coco_draws": self.options.coco_draws,
            "seed": self.options.seed,
            "correction": "Benjamini-Hochberg, over the headline metrics and over all others",
            "alpha": round(ALPHA, 12),
            "detectable": "80 % power at two-sided 5 %",
        }


def _versus_json(versus: Versus) -> dict[str, Any]:
    return {
        "run": versus.label,
        "verdicts": dict(versus.verdicts),
        "metrics": {key: asdict(change) for key, change in versus.changes.items()},
        "drops": [asdict(row) for row in versus.drops],
        "movers": None if versus.movers is None else asdict(versus.movers),
        "drop_movers": None if versus.drop_movers is None else asdict(versus.drop_movers),
        "slices": [asdict(part) for part in versus.slices],
    }


def compare_runs(
    runs: Sequence[Run],
    options: CompareOptions | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare runs on the images that all of them hold; the first one is the reference.

    Raises NotComparable for no common ids, another ground truth, protocol or class list (unless
    `allow_mismatch`), and for settings that `require_same` names; RunIncomplete where a run has
    nothing to evaluate; ConfigError for fewer than two runs.
    """
    options = options or CompareOptions()
    if len(runs) < 2:
        raise ConfigError("a comparison needs at least two runs")
    settings = compare_settings(runs)
    require_same(options.require_same, settings)
    progress("reading")
    pairing = pair_runs(runs)
    other_truth = said_of_other_truth(pairing)
    refuse_mismatches(other_truth, allowed=options.allow_mismatch)
    scores = score_equally(
        pairing.runs,
        protocol=options.protocol,
        matching=options.names,
        score_source=options.score_source,
        allow_mismatch=options.allow_mismatch,
        progress=progress,
    )
    refuse_mismatches(scores.mismatches, allowed=options.allow_mismatch)
    results = scores.results
    weights = draw_weights(
        len(pairing.ids), options.draws, options.seed, _canonical_places(pairing.ids)
    )
    replicates = replicate(results, weights, coco_draws=options.coco_draws, progress=progress)
    headline = headline_keys(result.metrics for result in results)
    progress("looking for reasons")
    slices = [slice_counts(result) for result in results]
    labels = [_label(number) for number in range(len(runs))]
    versus = tuple(
        _versus(
            label=labels[number],
            results=(results[0], results[number]),
            replicates=(replicates[0], replicates[number]),
            headline=headline,
            ids=pairing.ids,
            slices=slice_changes(slices[0], slices[number], weights[:SLICE_DRAWS]),
        )
        for number in range(1, len(runs))
    )
    return Comparison(
        runs=tuple(_compared_runs(labels, pairing, results)),
        versus=versus,
        images=len(pairing.ids),
        settings=settings,
        headline=headline,
        headline_f1=headline_f1(results[0].metrics),
        protocol=results[0].protocol,
        versions=results[0].versions,
        mismatches=(*other_truth, *scores.mismatches),
        notes=(
            *scores.notes,
            *idle_groups(results[0].rules, results[0].columns.universe),
            *_notes(pairing, labels),
        ),
        options=options,
    )


def _compared_runs(
    labels: Sequence[str], pairing: Pairing, results: Sequence[ScoreResult]
) -> Iterator[ComparedRun]:
    """What is kept of each run."""
    for label, run, result, unpaired in zip(
        labels, pairing.runs, results, pairing.unpaired, strict=True
    ):
        yield ComparedRun(
            label=label,
            path=str(run.path),
            meta=run.meta,
            status=result.status,
            metrics=result.metrics,
            unpaired=unpaired,
        )


def _versus(
    *,
    label: str,
    results: tuple[ScoreResult, ScoreResult],
    replicates: tuple[Replicates, Replicates],
    headline: tuple[str, ...],
    ids: tuple[str, ...],
    slices: list[SliceChange],
) -> Versus:
    changes = metric_changes(*results, replicates, headline)
    tables = replicates[0].table, replicates[1].table
    movers = {}
    for key in (headline_f1(results[0].metrics), DROPS_KEY):
        recipe = recipes_of(results[0], tables[0]).get(key)
        movers[key] = (
            find_movers(key, ids, *tables, recipe, limit=NUM_MOVERS)
            if isinstance(recipe, Ratio)
            else None
        )
    f1, drops = movers.values()
    return Versus(
        label=label,
        changes=changes,
        verdicts=tally(changes, headline),
        drops=tuple(drop_rows(results)),
        movers=f1,
        drop_movers=drops,
        slices=tuple(with_class_ap(slices, *results)),
    )


def _label(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"R{number + 1}"


def _canonical_places(ids: Sequence[str]) -> NDArray[np.int64]:
    """Where each image stands among the sorted ids: the same images get the same weights."""
    places = np.empty(len(ids), dtype=np.int64)
    places[np.argsort(np.array(ids, dtype=object), kind="stable")] = np.arange(len(ids))
    return places


def _notes(pairing: Pairing, labels: Sequence[str]) -> list[str]:
    notes = [
        f"{label}: {counted(len(ids), 'image')} without a partner, left out ({shown_ids(ids)})"
        for label, ids in zip(labels, pairing.unpaired, strict=True)
        if ids
    ]
    notes += [
        f"{label} has its images in another order than A; all are scored in A's order"
        for label, other in zip(labels, pairing.reordered, strict=True)
        if other
    ]
    return notes


__all__ = [
    "COMPARISON_FORMAT",
    "DEFAULT_COCO_DRAWS",
    "DEFAULT_DRAWS",
    "CompareOptions",
    "ComparedRun",
    "Comparison",
    "Versus",
    "compare_runs",
]
