"""Two minutes of Stage 1, watched by free decoding: `make demo-train`.

Writes synthetic scenes and an untrained tiny Qwen3-VL (1.4 M parameters), trains it with
`coordeval train recipes/demo_train.yaml`, and shows rollout F1 against steps: in the terminal, and
as a page (`curve.html`) and a picture (`curve.svg`). Expect F1@.50 of 0.7 to 0.9
(docs/training_results.md). Everything is seeded; a folder of an earlier demo is replaced.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shapes_start import write_data, write_start
from shown_command import coordeval
from training_curve import curve_table, read_curve

from coordeval.errors import CoordevalError
from coordeval.reports.console import result_console
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "demo_train.yaml"
OUT = HERE.parent / "runs" / "demo-train"
CURVES = ("f1/0.50/f1", "coco/AP", "loss")
TRAIN_SCENES, EVAL_SCENES = 4000, 32


def train(out: Path, changes: Sequence[str]) -> Path:
    """Train as the YAML file says, below `out`, and return the run folder."""
    run = out / "stage1"
    shutil.rmtree(run, ignore_errors=True)
    elsewhere: list[str] = []
    if out.resolve() != OUT:
        elsewhere = [
            f"model={out / 'start'}",
            f"output_dir={run}",
            f"data.train={out / 'scenes' / 'train.jsonl'}",
            f"data.eval={out / 'scenes' / 'eval.jsonl'}",
        ]
    given = [part for change in [*elsewhere, *changes] for part in ("--set", change)]
    coordeval("train", _short(CONFIG), *given)
    return run


def show(run: Path) -> None:
    """The curve in the terminal, as a page and as a picture."""
    result_console().print(curve_table(read_curve(run)))
    drawn = [part for key in CURVES for part in ("--curve", key)]
    steps = [_short(point.path) for point in read_curve(run)]
    logs = ("--logs", _short(run))
    coordeval("report", *steps, *logs, *drawn, "--output", _short(run.parent / "curve.html"))
    picture = ("--figure", "dynamics", "--output", _short(run.parent / "curve.svg"))
    coordeval("report", *logs, "--curve", CURVES[0], *picture)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main(given: Sequence[str] | None = None) -> None:
    """Prepare, train, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES, help="training scenes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    chosen = parser.parse_args(given)
    started = time.monotonic()
    try:
        write_data(chosen.out, train=chosen.scenes, evaluation=EVAL_SCENES)
        write_start(chosen.out)
        ready = time.monotonic()
        run = train(chosen.out, chosen.changes)
        trained = time.monotonic()
        show(run)
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"data {ready - started:.0f} s, training with its evaluations {trained - ready:.0f} s")


if __name__ == "__main__":
    main()
