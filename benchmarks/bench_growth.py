"""Growth from 1x to 32x input: CPU seconds, the exponent that fits them, and a picture.

Each case runs at six sizes, the sizes in turn, round by round; the smallest time of a size counts,
as disturbances only add. The exponent is the slope of log time over log size: 1 is linear. Below
it, a fixed part shows; so the slope of the last two doublings stands beside it, and either above
1.1 is marked.

    python benchmarks/bench_growth.py [--case scoring] [--svg docs/images/growth.svg]
"""

from __future__ import annotations

import gc
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from growth_cases import all_cases
from rounds import per_call, timed
from script import run_script
from tables import Table

if TYPE_CHECKING:
    import argparse

    from growth_case import Case, Work
    from tables import Cell

SCALES = (1, 2, 4, 8, 16, 32)
LIMIT = 1.1
FEWEST = 16
SHORT_S = 0.05


def base_of(case: Case, shrink: int) -> int:
    """How many items 1x is: at least FEWEST, unless the case itself begins with fewer."""
    return max(case.base // shrink, min(case.base, FEWEST))


def times_of(case: Case, rounds: int, shrink: int) -> list[float]:
    """The smallest CPU seconds at every scale; `shrink` divides the base."""
    base = base_of(case, shrink)
    best = [math.inf] * len(SCALES)
    with tempfile.TemporaryDirectory() as name:
        works: list[Work] = []
        for scale in SCALES:
            folder = Path(name) / str(scale)
            folder.mkdir()
            works.append(case.build(base * scale, folder))
        works[0]()  # libraries are imported on first use
        for _ in range(rounds):
            for place, work in enumerate(works):
                # What other sizes hold would make the collector's rounds dearer for all of them.
                gc.collect()
                gc.freeze()
                taken = timed(work).cpu
                if taken < SHORT_S:
                    taken = min(taken, per_call(work, SHORT_S).cpu)
                gc.unfreeze()
                best[place] = min(best[place], taken)
    return best


def exponent(seconds: list[float], scales: tuple[int, ...] = SCALES) -> float:
    """Least-squares slope of log seconds over log scale."""
    return float(np.polyfit(np.log(scales), np.log(seconds), 1)[0])


def last_exponent(seconds: list[float]) -> float:
    """The same over the last two doublings, where fixed parts weigh least."""
    return exponent(seconds[-3:], SCALES[-3:])


def row_of(case: Case, seconds: list[float], base: int) -> tuple[Cell, ...]:
    """One line of the table."""
    whole, last = exponent(seconds), last_exponent(seconds)
    return (
        f"{case.group}: {case.name}",
        f"{base:,} {case.unit}",
        *(value * 1e3 for value in seconds),
        whole,
        last,
        "above 1.1" if max(whole, last) > LIMIT else "",
    )


def growth_table(rows: list[tuple[Cell, ...]]) -> Table:
    """The table of all cases."""
    above = [str(row[0]) for row in rows if row[-1]]
    return Table(
        title="Growth: CPU ms from 1x to 32x input",
        columns=(
            ("what", ""),
            ("1x is", ""),
            *((f"{scale}x", ",.4g") for scale in SCALES),
            ("exponent", ".2f"),
            ("from 8x on", ".2f"),
            ("", ""),
        ),
        rows=tuple(rows),
        notes=(
            "exponent: slope of log time over log size; from 8x on: over the last two doublings.",
            f"Above {LIMIT}: {', '.join(above) if above else 'nothing'}.",
        ),
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """All cases that the options name; draws the picture where asked to."""
    cases = [
        case
        for case in all_cases()
        if not options.case or any(part in f"{case.group}: {case.name}" for part in options.case)
    ]
    rows = []
    for case in cases:
        seconds = times_of(case, options.rounds, options.shrink)
        rows.append(row_of(case, seconds, base_of(case, options.shrink)))
        print(f"{case.group}: {case.name} {rows[-1][-3]:.2f}", file=sys.stderr, flush=True)
    table = growth_table(rows)
    if options.svg is not None:
        from growth_plot import growth_svg

        options.svg.write_text(growth_svg(table), encoding="utf-8")
    return [table]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which cases, how often, how small, and where the picture goes."""
    parser.add_argument("--case", action="append", metavar="PART", help="only names with this part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shrink", type=int, default=1, help="divide every base size by this")
    parser.add_argument("--svg", type=Path, metavar="FILE")


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"rounds": 1, "shrink": 8}))
