"""Peak memory of `coordeval` commands at 1x, 8x and 32x rollouts of texts of the same size.

Each command runs in a process of its own on run directories whose lines hold token ids and
log-probabilities, as an engine writes them. The last column is what one rollout more costs.

    python benchmarks/bench_memory.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import workload
from children import run_module
from script import run_script
from tables import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tables import Cell

NOTE = (
    "its tokens and their log-probabilities, ground truth. Lines are read one at a time and go "
    "through in parts; tables are written and pages filled in parts. What stays grows all the "
    "same, because AP, ties and classes are questions to all detections: per image its packed text "
    "and its counts at ten thresholds, per object some 130 bytes (box, class, score, what it "
    "repeats, its pairs where it has any, what the tables say of it). A comparison holds that of "
    "both runs, and with resampling come a byte per image and draw and the match table of AP, some "
    "40 bytes per object; an attribution holds every overlap and the verdicts of three states of "
    "the run; a page its own text, some 2 KiB per image. Below some thousand rollouts the column "
    "also holds buffers that stop growing."
)
SCALES = (1, 8, 32)
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "coordeval score": lambda run: ["score", run],
    "coordeval inspect": lambda run: ["inspect", run],
    "coordeval inspect --worse-than": lambda run: ["inspect", run, "--worse-than", run],
    "coordeval compare, 200 draws": lambda run: ["compare", run, run, "--draws", "200"],
    "coordeval compare": lambda run: ["compare", run, run],
    "coordeval report": lambda run: ["report", run, "-o", f"{run}/report.html"],
    "coordeval attribute": lambda run: ["attribute", run],
    "coordeval attribute --against": lambda run: ["attribute", run, "--against", run],
    "coordeval check --update-baseline": lambda run: [
        *("check", run, "--baseline", f"{run}/base.json", "--update-baseline")
    ],
    "coordeval check --intervals": lambda run: [
        *("check", run, "--gate", "coco/AP>=0", "--gate", "f1/0.50/f1>=0", "--intervals")
    ],
}


def measure(options: argparse.Namespace) -> list[Table]:
    """One row per command."""
    counts = [options.images * scale for scale in SCALES]
    rows: list[tuple[Cell, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        runs = []
        for count in counts:
            work = workload.synthetic(count)
            runs.append(workload.write_run(Path(name) / str(count), work, seed_tokens=True))
        line_bytes = [
            (run / "rollouts.jsonl").stat().st_size / count
            for run, count in zip(runs, counts, strict=True)
        ]
        for label, command in COMMANDS.items():
            if options.command and label.replace(",", "").split()[1] not in options.command:
                continue
            peaks = []
            for run in runs:
                found = run_module("coordeval", command(str(run)))
                if found["code"]:
                    raise RuntimeError(f"{label} on {run}: exit code {found['code']}")
                peaks.append(found["peak_bytes"])
            slope = float(np.polyfit(counts, peaks, 1)[0])
            rows.append((label, *(peak / 2**20 for peak in peaks), slope / 1024))
    objects = len(work.detections) / counts[-1]
    return [
        Table(
            title="Peak memory over the number of rollouts",
            columns=(
                ("command", ""),
                *((f"{count:,} rollouts, MiB", ".0f") for count in counts),
                ("KiB per rollout", ".1f"),
            ),
            rows=tuple(rows),
            notes=(
                f"A line holds {line_bytes[-1] / 1024:.1f} KiB: a text of {objects:.0f} objects, "
                + NOTE,
            ),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How many rollouts 1x is."""
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--command", action="append", metavar="VERB", help="only this one")


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"images": 25}))
