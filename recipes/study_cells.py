"""Trainings of a study, side by side: each an ordinary `coordeval train`, none of them twice.

A cell is one training in `OUT/<arm>/seed-<n>`. A finished one is not trained again and a stopped
one goes on, so that a study's command can be given again until it is through.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.training.config_file import load_config
from coordeval.training.loop.run_folder import check_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from coordeval.training.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training: an arm of a study and a seed; `changes` are those of `--set`.

    `command` is what trains: `coordeval train` by default.
    """

    arm: str
    seed: int
    config: Path
    folder: Path
    changes: tuple[str, ...]
    command: tuple[str, ...] = (sys.executable, "-m", "coordeval", "train")

    @property
    def name(self) -> str:
        """What progress calls it."""
        return f"{self.arm}, seed {self.seed}"

    def settings(self) -> TrainConfig:
        """The configuration that the cell is trained with."""
        return load_config(self.config, self.changes)

    @property
    def checkpoint(self) -> Path:
        """Its last checkpoint, whether it is there or not."""
        return self.folder / f"checkpoint-{self.settings().trainer['max_steps']}"


def finished(cell: Cell) -> bool:
    """Whether the cell has its last checkpoint; RunMismatchError for one of other settings."""
    check_folder(cell.folder, cell.settings())
    return cell.checkpoint.is_dir()


def train_cell(cell: Cell) -> int:
    """Train one cell in a process of its own, or go on with it; its exit code."""
    if finished(cell):
        return 0
    print(f"{cell.name}: training", file=sys.stderr, flush=True)
    given = [part for change in cell.changes for part in ("--set", change)]
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    log = cell.folder.with_name(f"{cell.folder.name}.log")
    with log.open("ab") as handle:
        done = subprocess.run(  # noqa: S603 - our own command
            [*cell.command, str(cell.config), *given],
            check=False,
            stdout=handle,
            stderr=handle,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
    outcome = "done" if done.returncode == 0 else f"failed ({done.returncode}), see {log}"
    print(f"{cell.name}: {outcome}", file=sys.stderr, flush=True)
    return done.returncode


def train_cells(cells: Sequence[Cell], *, jobs: int) -> list[int]:
    """Train cells, `jobs` at a time; their exit codes."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(train_cell, cells))


__all__ = ["Cell", "finished", "train_cell", "train_cells"]
