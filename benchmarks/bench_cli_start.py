"""Start of the command line: `coordeval --help` against importing typer and rich.

Whole processes, interleaved: their times include the start of Python itself.

    python benchmarks/bench_cli_start.py
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from children import timed_process
from rounds import INTERVAL_NOTE, Timing, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

REFERENCE = "python -c 'import typer, rich'"
COMMANDS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    REFERENCE: ["-c", "import typer, rich"],
    "coordeval --help": ["-m", "coordeval", "--help"],
    "coordeval score --help": ["-m", "coordeval", "score", "--help"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def _process(work: Callable[[], object]) -> Timing:
    """The children's own times, which the clock of this process does not see."""
    taken = work()
    assert isinstance(taken, Timing)
    return taken


def measure(options: argparse.Namespace) -> list[Table]:
    """One row per command."""
    cases: dict[str, Callable[[], object]] = {
        label: partial(timed_process, [sys.executable, *command])
        for label, command in COMMANDS.items()
    }
    times = side_by_side(cases, options.rounds, warm_up=1, clock=_process)
    rows = tuple(
        (
            label,
            median_s(times, label, wall=True) * 1e3,
            median_s(times, label) * 1e3,
            ratio_of(times, label, REFERENCE),
        )
        for label in COMMANDS
    )
    return [
        Table(
            title="Start of the command line",
            columns=(
                ("command", ""),
                ("wall ms", ".0f"),
                ("CPU ms", ".0f"),
                ("CPU, times typer and rich", ".2f"),
            ),
            rows=rows,
            notes=(INTERVAL_NOTE,),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=15)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"rounds": 3}))
