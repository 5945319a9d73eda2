"""Start of the command line: `coordeval --help` against importing typer and rich.

Interleaved pairs in one run; prints the median ratio. Run: python benchmarks/bench_cli_start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PAIRS = 15
REFERENCE = [sys.executable, "-c", "import typer, rich"]
HELP = [sys.executable, "-m", "coordeval", "--help"]


def seconds(command: list[str]) -> float:
    """Wall time of one whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio of medians and of pairs."""
    seconds(REFERENCE), seconds(HELP)  # warm the file cache
    pairs = [(seconds(HELP), seconds(REFERENCE)) for _ in range(PAIRS)]
    ratios = [ours / reference for ours, reference in pairs]
    print(
        f"coordeval --help: {statistics.median(p[0] for p in pairs) * 1e3:.0f} ms, "
        f"import typer, rich: {statistics.median(p[1] for p in pairs) * 1e3:.0f} ms, "
        f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    )


if __name__ == "__main__":
    main()
