"""Targets that read a run and all that is made of it: scores, views, exports, gates."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from fuzzing.mutators import bend_bytes
from fuzzing.target import FIXTURES, Target, written
from fuzzing.texts import dump_lines

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.metrics.result import ScoreResult


def few_lines() -> list[bytes]:
    """Bare files of three rollout lines each."""
    lines = dump_lines()
    return [b"\n".join(lines[at : at + 3]) + b"\n" for at in range(0, len(lines), 3)]


def _scored(data: bytes, folder: Path) -> ScoreResult:
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    return score_run(open_run(written(data, folder, "lines.jsonl")))


def _shown(renderable: Any) -> str:
    """What a terminal gets: no control character of foreign text may be in it."""
    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=100, markup=False, emoji=False).print(renderable)
    text = buffer.getvalue()
    assert not any(ord(sign) < 32 and sign != "\n" for sign in text), "control characters shown"
    return text


def _score(data: bytes, folder: Path) -> None:
    """Rollout lines to metrics and tables on disk."""
    from coordeval.metrics.write import write_score

    result = _scored(data, folder)
    json.dumps(result.to_json(), allow_nan=False)
    write_score(result, folder / "score")


def _run_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((FIXTURES / "runs").glob("*/run.json"))]


def _run_json(data: bytes, folder: Path) -> None:
    """A run directory whose run.json is foreign, scored and shown."""
    from coordeval.metrics.score import score_run
    from coordeval.reports.terminal import score_report
    from coordeval.runs import open_run

    written(data, folder, "run.json")
    written(few_lines()[0], folder, "rollouts.jsonl")
    run = open_run(folder)
    assert (run.image_root, run.dataset_path) is not None
    _shown(score_report(score_run(run), name="x", meta=run.meta))


def _inspect(data: bytes, folder: Path) -> None:
    """The worst images, and each of them in full."""
    from coordeval.reports.inspection import inspect_image, render_inspection
    from coordeval.reports.worst import render_worst, worst_rows

    result = _scored(data, folder)
    _shown(render_worst(worst_rows(result.per_image, 5), total=len(result.per_image)))
    for entry in result.columns.images[:3]:
        inspection = inspect_image(result, entry.id)
        assert inspection is not None
        json.dumps(inspection.to_json())
        _shown(render_inspection(inspection))


def _report(data: bytes, folder: Path) -> None:
    """The report page: none of its data elements can be ended from inside."""
    from coordeval.reports.charts.shown import ShownRun
    from coordeval.reports.html.report import build_report
    from coordeval.runs import open_run

    run = open_run(written(data, folder, "lines.jsonl"))
    shown = ShownRun(run=run, result=_scored(data, folder), label="x", step=None)
    page = build_report([shown], max_thumbnails=2, image_root=folder).html
    assert page.count("</script>") == page.count("<script")


def _export(data: bytes, folder: Path) -> None:
    """Every export format, beside each other."""
    from coordeval.exchange.export_context import ExportContext
    from coordeval.exchange.exporting import FORMATS, export_run

    result = _scored(data, folder)
    for name in FORMATS:
        export_run(result, name, folder / f"out.{name}", ExportContext(name="x"))


@cache
def _trusted() -> ScoreResult:
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    return score_run(open_run(FIXTURES / "dumps" / "conforming.jsonl"))


def _baseline(data: bytes, folder: Path) -> None:
    """A foreign baseline held against a sound run, with intervals, as JUnit and Markdown."""
    from coordeval.reports.gate_markdown import check_markdown
    from coordeval.reports.junit import check_junit
    from coordeval.stats.baseline import read_baseline
    from coordeval.stats.gates import parse_gate
    from coordeval.stats.gates_check import check_run

    gates = [parse_gate(text) for text in ("coco/AP:-0.5pt", "parse/drop*:+1", "f1/0.50/f1:-1%")]
    baseline = read_baseline(written(data, folder, "base.json"))
    run, where = _trusted(), {"run": "x", "baseline_path": "y"}
    found = check_run(run, gates, baseline, with_intervals=True, **where)
    json.dumps(found.to_json(), allow_nan=False)
    check_junit(found)
    check_markdown(found)


def _baseline_seeds() -> list[bytes]:
    return [(FIXTURES / "baselines" / "conforming.json").read_bytes()]


def _slots_seeds() -> list[bytes]:
    """A table as a run with telemetry leaves it, and its log."""
    import tempfile
    from pathlib import Path

    from coordeval.records import Rollout, SlotReading
    from coordeval.slot_table import SLOTS_NAME, SlotLog, store_slots

    reading = SlotReading(1, 0, 0, "bbox_2d", 5, 5, 0.9, 0.1, 5, 0.8, 0.3, 7, "x", 0.1)
    blank = SlotReading(2, 0, 1, "poly", 5, None, None, 0.1, None, None, None, None, None, None)
    rollout = Rollout(id="0", width=9, height=9, gt=(), text="", slots=[reading, blank])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(b'{"id": "0"}\n', folder, "rollouts.jsonl")
        log = SlotLog(folder)
        log.append([rollout])
        log.close()
        store_slots(folder / "rollouts.jsonl")
        return [(folder / SLOTS_NAME).read_bytes()]


def _slots(data: bytes, folder: Path) -> None:
    """A foreign table of slot telemetry."""
    from coordeval.slot_table import SLOTS_NAME, load_slot_table

    written(data, folder, SLOTS_NAME)
    load_slot_table(folder / "rollouts.jsonl")


TARGETS = (
    Target(name="rollout lines", run=_score, seeds=few_lines, weight=3, pumped=False),
    Target(name="run.json", run=_run_json, seeds=_run_seeds, weight=2, pumped=False),
    Target(name="inspect", run=_inspect, seeds=few_lines, pumped=False),
    Target(name="report", run=_report, seeds=few_lines, pumped=False),
    Target(name="export", run=_export, seeds=few_lines, pumped=False),
    Target(name="baseline", run=_baseline, seeds=_baseline_seeds, pumped=False),
    Target(name="slots", run=_slots, seeds=_slots_seeds, mutators=(bend_bytes,), pumped=False),
)

__all__ = ["TARGETS", "few_lines"]
