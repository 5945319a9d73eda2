"""Measurements in processes of their own: their times, and the most memory that they held.

    python benchmarks/children.py MODULE ARGUMENTS...

runs a module as `python -m` does and prints its times and peak memory as JSON on the last line of
stderr, whatever the module's own exit code was.
"""

from __future__ import annotations

import json
import resource
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

STATUS = Path("/proc/self/status")


class Timing(NamedTuple):
    """CPU and wall-clock seconds of one call."""

    cpu: float
    wall: float


def resident_bytes() -> int:
    """Memory that this process holds now (0 where the system does not say)."""
    return _status_bytes("VmRSS") or 0


def peak_bytes() -> int:
    """The most memory that this process has held.

    From the process's own counter where there is one: `ru_maxrss` also counts what a large parent
    held when it started this process.
    """
    own = _status_bytes("VmHWM")
    if own is not None:
        return own
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(key: str) -> int | None:
    if not STATUS.exists():
        return None
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def last_json(script: str | Path, arguments: Sequence[str]) -> Any:
    """Run a script; the JSON of the last line that it prints. Its failure is ours."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{Path(script).name} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def timed_process(command: Sequence[str]) -> Timing:
    """CPU and wall seconds of one whole process, its start included; its failure is ours."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Timing(
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        wall,
    )


def run_module(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a module in a process of its own: exit code, CPU and wall seconds, peak bytes, stdout."""
    done = subprocess.run(
        [sys.executable, __file__, module, *arguments], capture_output=True, text=True, check=False
    )
    try:
        measured: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}") from None
    return measured | {"stdout": done.stdout}


def main() -> None:
    """Run the module that the command line names, and measure it."""
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    # As `python -m` does: the folder of this script would hide modules of the same names.
    sys.path[0] = ""
    code: Any = 0
    begun = time.perf_counter()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    print(
        json.dumps(
            {
                "code": code or 0,
                "cpu": time.process_time(),
                "wall": time.perf_counter() - begun,
                "peak_bytes": peak_bytes(),
            }
        ),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
