"""Python files run in children of a process that has torch: alone, or as the ranks of a launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from forked_commands import shared_commands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forked_commands import Commands, Started


def run_script(
    script: Path,
    *args: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """`python SCRIPT ARGS` in a fork, as `subprocess.run` with captured output tells of it."""
    (done,) = _run(script, args, [os.environ if env is None else env], timeout, cwd)
    return done


def run_ranks(
    script: Path,
    *args: object,
    env: Mapping[str, str],
    processes: int = 2,
    timeout: float = 240,
) -> list[subprocess.CompletedProcess[str]]:
    """A file in one fork per rank, with the variables that a launcher sets on one machine.

    Where a rank fails, the others are ended as a launcher would end them.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    ranks = [
        {**env, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)
    ]
    return _run(script, args, ranks, timeout)


def _run(
    script: Path,
    args: Sequence[object],
    environments: Sequence[Mapping[str, str]],
    timeout: float,
    cwd: Path | None = None,
) -> list[subprocess.CompletedProcess[str]]:
    commands = shared_commands(model=True)
    children = [
        commands.start(*args, script=script, cwd=cwd or Path.cwd(), env=env) for env in environments
    ]
    codes = _codes(commands, children, timeout)
    return [
        subprocess.CompletedProcess(
            args, codes[child], child.stdout.read_text(), child.stderr.read_text()
        )
        for child in children
    ]


def _codes(commands: Commands, children: Sequence[Started], timeout: float) -> dict[Started, int]:
    """Exit codes of all, once the last has ended; after a failure or the time the rest is killed."""
    codes: dict[Started, int] = {}
    end = time.monotonic() + timeout
    while len(codes) < len(children):
        for child in (child for child in children if child not in codes):
            code = commands.poll(child)
            if code is not None:
                codes[child] = code
        if any(codes.values()) or time.monotonic() > end:
            _kill(commands, [child for child in children if child not in codes], codes)
        time.sleep(0.02)
    return codes


def _kill(commands: Commands, children: Sequence[Started], codes: dict[Started, int]) -> None:
    """Give the others a moment to end by themselves, then kill them."""
    end = time.monotonic() + 5
    for child in children:
        code = commands.poll(child)
        while code is None and time.monotonic() < end:
            time.sleep(0.05)
            code = commands.poll(child)
        if code is None:
            os.kill(child.pid, signal.SIGKILL)
            code = commands.wait(child).code
        codes[child] = code
