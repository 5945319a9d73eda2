"""Scoring a COCO-sized run: coordeval from the texts, others from the boxes of the same run.

Each engine runs in a process of its own, in turn, round by round. Two sets: a synthetic one with
COCO's counts, and LMM-Det's detections on val2017 where COORDEVAL_DATA is. coordeval reads texts,
parses them, counts drops, repeats and loops, matches for F1 three times, and evaluates COCO with
and without repeats and over both orders of ties; the others get the boxes that it found, and do
COCO once.

    python benchmarks/bench_scoring.py
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coco_engines
import workload
from children import Timing, last_json
from rounds import INTERVAL_NOTE, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table

from coordeval.jsonl import dump_line
from coordeval.metrics.score import score_run
from coordeval.runs import open_run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tables import Cell

REFERENCE = "pycocotools"
SHOWN = ("AP", "AP50", "AP75", "APs", "AR100")
COST_NOTE = (
    "coordeval starts from texts and does all of its diagnostics; the others start from boxes and "
    "do COCO once. 'above start': what the work adds to the process with its libraries imported "
    "and its inputs read."
)
Results = dict[str, list[dict[str, Any]]]


def prepare(folder: Path, work: workload.Workload) -> str:
    """The run directory and the same boxes as COCO has them; returns what the set holds."""
    result = score_run(open_run(workload.write_run(folder / "run", work)))
    (folder / "truth.json").write_bytes(dump_line(work.truth))
    (folder / "detections.json").write_bytes(dump_line(result.coco_results))
    return (
        f"{work.name}: {len(work.truth['images']):,} images, {len(work.truth['annotations']):,} "
        f"objects, {len(result.coco_results):,} detections, "
        f"{result.metrics['dup/exact_objects']:,} of them exact repeats"
    )


def run_engines(folder: Path, names: list[str], rounds: int) -> Results:
    """All results of every engine, one process each, in turn."""
    results: Results = {name: [] for name in names}

    def one(name: str) -> dict[str, Any]:
        found: dict[str, Any] = last_json(coco_engines.__file__, [name, str(folder)])
        results[name].append(found)
        return found

    side_by_side({name: partial(one, name) for name in names}, rounds, clock=_times)
    return results


def _times(work: Callable[[], object]) -> Timing:
    found: Any = work()
    return Timing(found["cpu"], found["wall"])


def cost_table(title: str, results: Results) -> Table:
    """Time, processor, memory."""
    times = {name: [Timing(r["cpu"], r["wall"]) for r in found] for name, found in results.items()}
    rows: list[tuple[Cell, ...]] = []
    for name in coco_engines.ENGINES:
        if name not in results:
            rows.extend(_absent(name, columns=6))
            continue
        found = results[name]
        rows.append(
            (
                name,
                median_s(times, name, wall=True),
                median_s(times, name),
                ratio_of(times, name, REFERENCE),
                max(result["peak_bytes"] for result in found) / 2**20,
                max(result["peak_bytes"] - result["before_bytes"] for result in found) / 2**20,
            )
        )
    return Table(
        title=f"Scoring: {title}",
        columns=(
            ("engine", ""),
            ("wall s", ".2f"),
            ("CPU s", ".2f"),
            (f"CPU, times {REFERENCE}", ".3f"),
            ("peak MiB", ".0f"),
            ("above start", ".0f"),
        ),
        rows=tuple(rows),
        notes=(COST_NOTE, INTERVAL_NOTE),
    )


def _absent(name: str, columns: int) -> list[tuple[Cell, ...]]:
    """A row that says which package is missing; none for an engine that was not asked for."""
    package = coco_engines.missing(name)
    if package is None:
        return []
    return [(name, f"not installed ({package})", *[None] * (columns - 2))]


def numbers_table(title: str, results: Results) -> Table:
    """What each says of the same run, and how far that is from pycocotools."""
    reference = results[REFERENCE][0]["numbers"]
    rows: list[tuple[Cell, ...]] = []
    for name in (*coco_engines.ENGINES, *coco_engines.EXPLANATIONS):
        if name not in results:
            rows.extend(_absent(name, columns=len(SHOWN) + 2))
            continue
        numbers = results[name][0]["numbers"]
        by_key = dict(zip(coco_engines.KEYS, numbers, strict=True))
        largest = max(abs(a - b) for a, b in zip(numbers, reference, strict=True))
        rows.append((name, *[by_key[key] for key in SHOWN], largest))
    return Table(
        title=f"What each says: {title}",
        columns=(
            ("engine", ""),
            *((key, ".5f") for key in SHOWN),
            ("largest difference of the twelve numbers", ".1e"),
        ),
        rows=tuple(rows),
        notes=explained(results),
    )


def explained(results: Results) -> tuple[str, ...]:
    """Where differences come from, as far as this run shows it."""
    notes = ["Differences are to pycocotools."]
    both = ("torchmetrics", "pycocotools, float32 grids")
    if all(name in results for name in both):
        theirs, ours = (results[name][0]["numbers"] for name in both)
        left = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
        notes.append(
            "torchmetrics makes its IoU and recall thresholds in float32 (0.55 is 0.5500000119, so "
            "a recall of exactly 0.55 misses its place). pycocotools with those grids is "
            f"{left:.1e} from it at most."
        )
    return tuple(notes)


def tie_table(title: str, folder: Path) -> Table:
    """What coordeval says beyond AP."""
    metrics = score_run(open_run(folder / "run")).metrics
    return Table(
        title=f"What only coordeval says: {title}",
        columns=(("metric", ""), ("value", ".5f")),
        rows=tuple(
            (key, metrics[key])
            for key in (
                "coco/AP",
                "coco_dedup/AP",
                "coco/AP_tie_min",
                "coco/AP_tie_max",
                "score/tied_frac",
                "f1/0.50/f1",
                "f1_dedup/0.50/f1",
                "dup/exact_rate",
                "dup/loop_rate",
            )
        ),
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """All tables of all sets."""
    works = [workload.synthetic(options.images)]
    folder = workload.data_folder()
    if folder is not None and options.workload != "synthetic":
        works.append(workload.lmm_det(folder, options.images))
    wanted = [REFERENCE, *options.engine] if options.engine else list(coco_engines.ENGINES)
    names = [n for n in coco_engines.ENGINES if n in wanted and coco_engines.missing(n) is None]
    explanations = [n for n in coco_engines.EXPLANATIONS if "torchmetrics" in names]
    tables = []
    for work in works:
        with tempfile.TemporaryDirectory() as temporary:
            title = prepare(Path(temporary), work)
            results = run_engines(Path(temporary), names, options.rounds)
            results |= run_engines(Path(temporary), explanations, 1)
            tables += [
                cost_table(title, results),
                numbers_table(title, results),
                tie_table(title, Path(temporary)),
            ]
    return tables


if __name__ == "__main__":

    def _arguments(parser: argparse.ArgumentParser) -> None:
        workload.add_arguments(parser)
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--engine", action="append", choices=list(coco_engines.ENGINES))

    sys.exit(run_script(__doc__, measure, arguments=_arguments, quick={"images": 300, "rounds": 1}))
