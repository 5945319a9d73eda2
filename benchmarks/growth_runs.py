"""Growth over runs: reading, scoring, inspecting, attributing, comparing, reporting, replaying.

Runs of more images have texts of the same size.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import workload
from growth_case import Case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from growth_case import Build, Work

    from coordeval.metrics.result import ScoreResult

UNREADABLE = '{"objects": [' + '{"desc": "cat", "bbox": oops, ' * 12


RUN_BASE = 160  # so that 32x is a little more than COCO's val2017
PROSE = "and the red cat next to the dog " * 20


def _run(kind: str, size: int, folder: Path) -> Path:
    work = workload.synthetic(size)
    path = workload.write_run(folder / f"{kind}-{size}", work)
    if kind != "plain":
        _rewrite(path / "rollouts.jsonl", KINDS[kind])
    return path


def _looping(text: str) -> str:
    """The text's last record over and over, to the budget."""
    head, comma, last = text.removesuffix("]}").rpartition(', {"desc"')
    return text if not comma else head + (comma + last) * 30


KINDS: dict[str, Callable[[str], str]] = {
    "looping": _looping,
    "unreadable": lambda _: UNREADABLE,
    "prose": lambda _: PROSE,
}


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Other texts in the lines of a run; what goes with the old texts is left out."""
    from coordeval.jsonl import dump_line, load_json

    lines = [load_json(line) for line in path.read_bytes().splitlines()]
    with path.open("wb") as handle:
        for line in lines:
            del line["scores"]
            handle.write(dump_line(line | {"text": change(line["text"])}))


def _scored(kind: str, size: int, folder: Path) -> ScoreResult:
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    return score_run(open_run(_run(kind, size, folder)))


def run_cases() -> list[Case]:
    """Everything that is made from a run, over the number of its images."""

    def reading(size: int, folder: Path) -> Work:
        from coordeval.runs import open_run

        run = open_run(_run("plain", size, folder))
        return lambda: sum(1 for _ in run.rollouts())

    def scoring(kind: str) -> Build:
        def build(size: int, folder: Path) -> Work:
            from coordeval.metrics.score import score_run
            from coordeval.runs import open_run

            run = open_run(_run(kind, size, folder))
            return lambda: score_run(run)

        return build

    return [
        Case("reading", "rollout lines", "images", RUN_BASE, reading),
        Case("scoring", "COCO-like run", "images", RUN_BASE, scoring("plain")),
        Case("scoring", "every text loops", "images", RUN_BASE, scoring("looping")),
        Case("scoring", "every text unreadable", "images", RUN_BASE, scoring("unreadable")),
        Case("scoring", "every text loops without a record", "images", RUN_BASE, scoring("prose")),
        Case("scoring", "loops of one text", "loops", 32, many_loops),
        Case("scoring", "boxes of one image", "boxes", 64, one_image),
        Case("scoring", "tables and files", "images", RUN_BASE, writing),
        Case("inspect", "the worst samples", "images", RUN_BASE, inspecting),
        Case("attribution", "of a scored run", "images", RUN_BASE, attributing),
        Case("compare", "whole comparison", "images", RUN_BASE, comparing),
        Case("compare", "bootstrap alone", "images", RUN_BASE, resampling),
        Case("report", "page of a scored run", "images", RUN_BASE, reporting),
        Case("rollout", "harness, replayed", "images", RUN_BASE, replaying),
    ]


def one_image(size: int, folder: Path) -> Work:
    """As many objects and predictions in one image, spread over it in a grid that grows."""
    from coordeval.data.canonical import render_text
    from coordeval.jsonl import dump_line
    from coordeval.metrics.score import score_run
    from coordeval.parsers.dialects import DIALECTS
    from coordeval.runs import open_run

    columns = round((2 * size) ** 0.5) + 1
    step = 998 // columns
    places = itertools.islice(itertools.product(range(columns), repeat=2), size)
    boxes = [(x * step, y * step, x * step + step - 1, y * step + step - 1) for x, y in places]
    path = folder / f"one-{size}.jsonl"
    line = {
        "id": "one",
        "width": 1000,
        "height": 1000,
        "gt": [{"desc": f"class {n % 80}", "bbox_2d": box} for n, box in enumerate(boxes)],
        "text": render_text(
            [(f"class {n % 80}", "bbox_2d", box) for n, box in enumerate(boxes)],
            DIALECTS["coordjson"],
        ),
    }
    path.write_bytes(dump_line(line))
    run = open_run(path)
    return lambda: score_run(run)


def many_loops(size: int, folder: Path) -> Work:
    """One text with so many loops, one after the other, and its token ids."""
    from coordeval.data.canonical import render_text
    from coordeval.jsonl import dump_line
    from coordeval.metrics.score import score_run
    from coordeval.parsers.dialects import DIALECTS
    from coordeval.runs import open_run

    records = []
    for number in range(size):
        box = (number % 900, number // 900, number % 900 + 50, number // 900 + 90)
        records += [(f"thing {number}", "bbox_2d", box)] * 5
    tokens = [number % 1000 + 5000 for number in range(20 * len(records))]
    line = {
        "id": "one",
        "width": 1000,
        "height": 1000,
        "gt": [],
        "text": render_text(records, DIALECTS["coordjson"]),
        "token_ids": tokens,
    }
    path = folder / f"loops-{size}.jsonl"
    path.write_bytes(dump_line(line))
    run = open_run(path)
    return lambda: score_run(run)


def writing(size: int, folder: Path) -> Work:
    """All tables of a scored run, to the disk."""
    from dataclasses import replace

    from coordeval.metrics.write import write_score

    result = _scored("plain", size, folder)
    # A copy, because tables are made once per result.
    return lambda: write_score(replace(result), folder / "score")


def inspecting(size: int, folder: Path) -> Work:
    """The list of the worst samples, and one of them record by record."""
    from dataclasses import replace

    from coordeval.reports.inspection import inspect_image
    from coordeval.reports.worst import worst_rows

    result = _scored("plain", size, folder)

    def work() -> None:
        fresh = replace(result)
        worst = worst_rows(fresh.per_image, 20)
        inspect_image(fresh, worst[0]["id"])

    return work


def attributing(size: int, folder: Path) -> Work:
    """All error types, alone and in order."""
    from coordeval.metrics.attribution.attribution import attribute

    result = _scored("plain", size, folder)
    return lambda: attribute(result)


def _two_runs(size: int, folder: Path) -> list[Path]:
    work = workload.synthetic(size)
    other = workload.perturbed(work)
    return [
        workload.write_run(folder / f"{label}-{size}", part)
        for label, part in (("a", work), ("b", other))
    ]


DRAWS, COCO_DRAWS = 500, 50


def comparing(size: int, folder: Path) -> Work:
    """Two runs from their texts, with fewer draws than usual."""
    from coordeval.runs import open_run
    from coordeval.stats.comparison import CompareOptions, compare_runs

    runs = [open_run(path) for path in _two_runs(size, folder)]
    options = CompareOptions(draws=DRAWS, coco_draws=COCO_DRAWS)
    return lambda: compare_runs(runs, options)


def resampling(size: int, folder: Path) -> Work:
    """Every metric of two scored runs under the same draws."""
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run
    from coordeval.stats.bootstrap import draw_weights
    from coordeval.stats.replicates import replicate

    results = [score_run(open_run(path)) for path in _two_runs(size, folder)]
    return lambda: replicate(results, draw_weights(size, DRAWS, 0), coco_draws=COCO_DRAWS)


def reporting(size: int, folder: Path) -> Work:
    """The page with intervals and all texts; there are no image files."""
    from coordeval.metrics.score import score_run
    from coordeval.reports.charts.shown import shown_runs
    from coordeval.reports.html.report import build_report
    from coordeval.runs import open_run

    run = open_run(_run("plain", size, folder))
    shown = shown_runs([(run, score_run(run))])
    return lambda: build_report(shown)


def replaying(size: int, folder: Path) -> Work:
    """`run_rollouts` around an engine that only hands out recorded texts."""
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.replay import ReplayEngine
    from coordeval.engines.runner import run_rollouts
    from coordeval.parsers.dialects import dialect_named
    from coordeval.records import Sample
    from coordeval.runs import open_run

    path = _run("plain", size, folder)
    samples = [
        Sample(id=r.id, image=r.id, width=r.width, height=r.height, objects=r.gt)
        for r in open_run(path).rollouts()
    ]
    numbers = itertools.count()

    def work() -> None:
        engine = ReplayEngine(path)
        outcome = run_rollouts(
            engine,
            samples,
            out=folder / f"replayed-{size}-{next(numbers)}",
            identity={"checkpoint": {"name": "replay"}},
            extra={},
            decode=DecodeSettings(max_new_tokens=512),
            dialect=dialect_named("coordjson"),
        )
        assert outcome.counts["errors"] == 0

    return work


__all__ = ["run_cases"]
