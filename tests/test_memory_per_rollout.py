"""What one rollout more costs each command in memory: bytes that Python and numpy ask for.

Two sizes of one kind of run are measured and divided, so that what every run costs anyway (and
buffers of a fixed size and draws, which are set small here) falls out.
"""

from __future__ import annotations

import importlib
import json
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from coordeval.cli.app import app

TINY, SMALL, LARGE, OBJECTS = 6, 40, 240, 8
BUFFERS = {
    "coordeval.metrics.collect.PART_ROLLOUTS": 16,
    "coordeval.metrics.iou.PAIRS_PER_CHUNK": 512,
    "coordeval.metrics.objects_table.PART_ROWS": 128,
    "coordeval.metrics.attribution.candidates.PART_ROWS": 128,
    "coordeval.reports.html.embed.PLAIN_LIMIT_BYTES": 1000,
    "coordeval.reports.html.intervals.DRAWS": 100,
    "coordeval.reports.html.intervals.AP_DRAWS": 20,
    "coordeval.stats.bootstrap.DRAWS_AT_ONCE": 20,
    "coordeval.stats.coco_matches.PART_DETECTIONS": 128,
    "coordeval.stats.coco_draws.PART_HITS": 128,
    "coordeval.stats.gates_intervals.NUM_DRAWS": 100,
    "coordeval.stats.gates_intervals.COCO_DRAWS": 20,
    "coordeval.stats.image_table.CELLS_AT_ONCE": 128,
    "coordeval.stats.slices.PART_OBJECTS": 128,
}
COMMANDS = {
    "compare": (["compare", "RUN", "RUN", "--draws", "100", "--coco-draws", "20"], 14_000),
    "attribute": (["attribute", "RUN", "--against", "RUN"], 6_000),
    "report": (["report", "RUN", "-o", "RUN/page.html"], 10_000),
    "baseline": (["check", "RUN", "--baseline", "RUN/b.json", "--update-baseline"], 8_000),
    "intervals": (["check", "RUN", "--gate", "f1/0.50/f1>=0", "--intervals"], 9_000),
    "inspect": (["inspect", "RUN", "--worse-than", "RUN"], 6_800),
}
"""Each command, and the bytes that a rollout of eight boxes may cost it."""


def write_run(folder, num_images):
    """Texts of eight boxes on images of six objects, with tokens as an engine writes them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"format": "coordeval-run/1", "frame": "unit-1000", "status": "complete"})
    )
    with (folder / "rollouts.jsonl").open("w") as handle:
        for number in range(num_images):
            corners = rng.integers(0, 700, (OBJECTS, 2))
            boxes = np.hstack([corners, corners + rng.integers(9, 290, (OBJECTS, 2))]).tolist()
            names = [f"kind {k}" for k in rng.integers(0, 9, OBJECTS)]
            records = [
                f'{{"desc": "{name}", "bbox_2d": ['
                + ", ".join(f"<|coord_{v}|>" for v in box)
                + "]}"
                for name, box in zip(names, boxes, strict=True)
            ]
            line = {
                "id": f"{number:05}",
                "width": 1000,
                "height": 1000,
                "gt": [
                    {"desc": name, "bbox_2d": box}
                    for name, box in zip(names[:6], boxes[:6], strict=True)
                ],
                "text": '{"objects": [' + ", ".join(records) + "]}",
                "finish_reason": "stop",
                "scores": rng.random(OBJECTS).round(2).tolist(),
                "token_ids": rng.integers(0, 1000, 18 * OBJECTS).tolist(),
                "token_logprobs": (-rng.random(18 * OBJECTS)).tolist(),
            }
            handle.write(json.dumps(line) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {size: write_run(folder / str(size), size) for size in (TINY, SMALL, LARGE)}


def peak_bytes(arguments, run):
    tracemalloc.start()
    done = CliRunner().invoke(app, [word.replace("RUN", str(run)) for word in arguments])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.exit_code == 0, done.output
    return peak


@pytest.mark.parametrize("name", COMMANDS)
def test_a_rollout_costs_a_command_no_more_than_that(name, runs, monkeypatch):
    """The command's peak over the number of rollouts; a list per object is several times that."""
    for path, size in BUFFERS.items():
        module, _, constant = path.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), constant, size)
    arguments, limit_bytes = COMMANDS[name]
    peak_bytes(arguments, runs[TINY])  # whatever is made once
    small, large = (peak_bytes(arguments, runs[size]) for size in (SMALL, LARGE))
    assert (large - small) / (LARGE - SMALL) < limit_bytes
