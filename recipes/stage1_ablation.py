"""Four objectives of Stage 1 at equal budgets: `python recipes/stage1_ablation.py`.

`pure_ce`, `soft` and `mixed` as users get them, and `soft` with box losses, three seeds each, on
synthetic scenes. A seed chooses the untrained weights and the order of the samples; data, steps,
batch, optimizer and schedule are the same in all cells. Prints the tables of
docs/stage1_ablation.md: teacher-forced values of the held-out scenes beside those of free decoding
on the same scenes, and how far the former put the cells into the order of the latter.

A cell is an ordinary `coordeval train recipes/stage1_ablation.yaml --set ...` in
`OUT/<objective>/seed-<n>`; a finished one is not trained again, so the command goes on where it
was stopped. Under an hour on two cores (`--jobs 2`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ablation_tables import CellResult, markdown, read_cell
from shapes_start import write_data, write_start
from study_cells import Cell, train_cells

from coordeval.errors import CoordevalError
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "stage1_ablation.yaml"
OUT = HERE.parent / "runs" / "stage1-ablation"
TRAIN_SCENES, EVAL_SCENES = 4000, 192
SEEDS = (17, 18, 19)
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "pure_ce": ("objective.preset=pure_ce",),
    "soft": ("objective.preset=soft",),
    "mixed": ("objective.preset=mixed",),
    "soft+box": ("objective.preset=soft", "objective.box={smooth_l1: 1.0, ciou: 1.0}"),
}


def cells(out: Path, seeds: Sequence[int], extra: Sequence[str]) -> list[Cell]:
    """Every cell, seed by seed, so that a stopped ablation has whole seeds; starts are written."""
    data = write_data(out / "data", train=TRAIN_SCENES, evaluation=EVAL_SCENES)
    found = []
    for seed in seeds:
        start = out / f"start-{seed}"
        if not (start / "start" / "model.safetensors").exists():
            write_start(start, seed=seed)
        for objective, own in OBJECTIVES.items():
            folder = out / objective / f"seed-{seed}"
            common = (
                f"model={start / 'start'}",
                f"output_dir={folder}",
                f"data.train={data / 'train.jsonl'}",
                f"data.eval={data / 'eval.jsonl'}",
                f"seed={seed}",
            )
            found.append(
                Cell(
                    arm=objective,
                    seed=seed,
                    config=CONFIG,
                    folder=folder,
                    changes=(*common, *own, *extra),
                )
            )
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Train what is missing, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    chosen = parser.parse_args(given)
    try:
        wanted = cells(chosen.out.resolve(), chosen.seeds, chosen.changes)
        codes = train_cells(wanted, jobs=chosen.jobs)
        results: list[CellResult] = [
            read_cell(cell.arm, cell.seed, cell.folder)
            for cell, code in zip(wanted, codes, strict=True)
            if code == 0
        ]
        if results:
            print(markdown(results))
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
